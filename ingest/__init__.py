"""The pipeline: everything a corpus goes through."""
