"""The engine: everything a query touches."""
