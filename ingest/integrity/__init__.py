"""Check whether a database is whole, repair it, and back it up."""
