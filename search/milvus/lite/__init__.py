"""Read the files of a Milvus Lite database directly, beside the process that writes them."""
