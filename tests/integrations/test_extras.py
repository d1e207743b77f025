"""The retrievers are extras: where their package is missing, one line says so."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("TwinlensRetriever", "langchain_core", "langchain"),
        ("LlamaIndexRetriever", "llama_index", "llamaindex"),
        ("HaystackRetriever", "haystack", "haystack"),
    ],
)
def test_a_missing_package_is_one_line(name: str, package: str, extra: str) -> None:
    script = (
        f"import sys; sys.modules['{package}'] = None\nimport twinlens\n"
        f"try: twinlens.{name}\nexcept twinlens.UsageError as error: print(error)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert ended.stdout == f"the retriever needs an extra: pip install 'twinlens[{extra}]'\n"
