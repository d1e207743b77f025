"""What the tests share: a tiny encoder, a hub, a Milvus server, a relay, a served application."""

from pathlib import Path

#: The folder of the tests, and of the project.
TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
