"""``BulkImports``: let a server import Parquet files from its own storage."""

from __future__ import annotations

from typing import Any

from twinlens.search.milvus.pymilvus_calls import milvus_errors
from twinlens.search.milvus.reader import SEARCHED, CollectionReader
from twinlens.search.records import Kind

#: How many jobs are listed to find one that was started before.
MAX_JOBS = 1_000


class BulkImports:
    """Starts and watches the import jobs of a collection.

    Args:
        reader: the collection.
    """

    def __init__(self, reader: CollectionReader) -> None:
        self._reader = reader

    def columns(self, kind: Kind) -> dict[str, str]:
        """The columns that a file needs, with Milvus' types; ``$meta`` is for all other fields."""
        described = self._reader.describe(kind)
        computed = {
            name for one in described.get("functions", ()) for name in one["output_field_names"]
        }
        columns = {
            field["name"]: field["type"].name
            for field in described["fields"]
            if field["name"] not in computed
        }
        return columns | {"$meta": "JSON"}

    def start(self, kind: Kind, address: str) -> int:
        """Start the import of a Parquet file; returns the number of the job.

        An import does not replace rows: rows whose keys are stored would be duplicated.
        """
        with milvus_errors(f"import {address}"):
            # MilvusClient has no method for it.
            job: int = self._handler.do_bulk_insert(
                self._reader.physical(kind), "", [address], context=self._context()
            )
        return job

    def jobs(self, kind: Kind) -> dict[str, int]:
        """The jobs that did not fail, by the address of their file."""
        with milvus_errors("list the imports"):
            jobs = self._handler.list_bulk_insert_tasks(
                MAX_JOBS, self._reader.physical(kind), context=self._context()
            )
        return {
            address: job.task_id
            for job in jobs
            if "Fail" not in job.state_name
            for address in str(job.infos.get("files", "")).split(",")
        }

    def state(self, job: int) -> tuple[bool, str]:
        """Whether a job is completed, and the reason if it failed, else ""."""
        with milvus_errors("read the state of an import"):
            state = self._handler.get_bulk_insert_state(job, context=self._context())
        if "Fail" in state.state_name:
            reason = str(state.failed_reason).strip()
            return False, reason.splitlines()[0][:300] if reason else "no reason given"
        return state.state_name == "Completed", ""

    def refresh(self) -> None:
        """Load imported rows, so that searches find them."""
        with self._reader.asking("load imported rows"):
            for kind in SEARCHED:
                self._reader.client.refresh_load(self._reader.loaded(kind))

    @property
    def _handler(self) -> Any:
        return self._reader.client._get_connection()

    def _context(self) -> Any:
        return self._reader.client._generate_call_context()
