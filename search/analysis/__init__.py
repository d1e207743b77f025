"""Analyse a collection: evaluate, classify, find duplicates, project, and estimate its size."""
