"""What the tests share: a tiny encoder, a hub, a Milvus server, a relay, a served application."""

import re
from pathlib import Path

#: The folder of the tests, and of the project.
TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent


def examples_of(document: str, heading: str) -> list[str]:
    """The Python examples below a heading of the second level of a document in ``docs``."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    _, _, section = text.partition(f"\n## {heading}\n")
    section = section.partition("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
