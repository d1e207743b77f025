"""Bulk import: write Parquet to object storage and let a Milvus server load it."""
