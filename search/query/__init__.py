"""Queries: from text, pictures and vectors to ranked hits."""
