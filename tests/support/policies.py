"""A policy that the tests share: red is held back, blue is flagged."""

RULES = """
version = 1
[concepts.red]
texts = ["red"]
false_alarms = 0.1
action = "hold"
[concepts.blue]
texts = ["blue"]
false_alarms = 0.1
"""
