"""Search a collection: parse queries, embed them, rank rows, and return hits."""
