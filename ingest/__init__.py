"""The ingest pipeline: read sources, decode, encode and write to a collection."""
