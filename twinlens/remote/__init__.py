"""Fill and search a collection of a twinlens server over HTTP."""
