"""The HTTP API and the page: what ``twinlens serve`` starts."""
