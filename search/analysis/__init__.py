"""Analysis of a collection: evaluation, classification, duplicates, the map, sizing."""
