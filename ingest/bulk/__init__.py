"""Bulk import: write Parquet files to storage that a Milvus server imports from."""
