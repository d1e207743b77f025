"""Milvus: databases, collections, their schema, indexes, tenants and generations."""
