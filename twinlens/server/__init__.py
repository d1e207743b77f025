"""The HTTP API and the search page: what 'twinlens serve' starts."""
