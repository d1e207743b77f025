"""Move stored rows: copy a collection, reindex it, export it and import it again."""
