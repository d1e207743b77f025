"""A collection behind a twinlens server: the methods of Index, over HTTP."""
