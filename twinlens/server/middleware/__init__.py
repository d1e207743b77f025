"""ASGI middleware: access log, security headers, limits."""
