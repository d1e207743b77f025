"""Training of the heads of `starter`; not part of the installed package."""
