"""The search engine: encode pictures and texts, store the embeddings in Milvus, answer queries."""
