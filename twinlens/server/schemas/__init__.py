"""The pydantic models of requests and responses."""
