"""Moderation: judge pictures by a policy of concepts, each with words, examples and a limit."""
