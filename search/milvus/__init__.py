"""Store collections in Milvus: databases, schema, indexes, tenants and generations."""
