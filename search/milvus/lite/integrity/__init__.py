"""Find damage in the files of a Milvus Lite database, and repair what can be repaired."""
