"""Ingest on a Ray cluster: read, decode and encode with Ray Data, write here."""
