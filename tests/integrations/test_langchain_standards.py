"""The LangChain retriever passes LangChain's own tests of retrievers."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests

import twinlens


@pytest.mark.anyio
class TestStandards(RetrieversIntegrationTests):
    """What LangChain asks of a retriever."""

    @pytest.fixture(autouse=True)
    def _fill(self, index: twinlens.Index, photos: Path) -> None:
        index.ingest(photos)
        self._index = index

    @property
    def retriever_constructor(self) -> type[twinlens.TwinlensRetriever]:
        return twinlens.TwinlensRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, object]:
        return {"index": self._index}

    @property
    def retriever_query_example(self) -> str:
        return "a red picture"

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"
