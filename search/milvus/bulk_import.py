"""``Imports``: files that a server reads from its own storage into a corpus."""

from __future__ import annotations

from typing import Any

from twinlens.search.milvus.errors import milvus_errors
from twinlens.search.milvus.physical import Physical
from twinlens.search.records import Kind, Target

SEARCHED: tuple[Target, ...] = ("images", "texts")
#: Imports that are looked through for one that was begun before.
MAX_JOBS = 1_000


class Imports:
    """The imports of one corpus.

    Args:
        physical: its collections.
    """

    def __init__(self, physical: Physical) -> None:
        self._physical = physical

    def columns(self, kind: Kind) -> dict[str, str]:
        """What a file to import has: fields, and ``$meta`` for all others, with Milvus' types."""
        described = self._physical.described(kind)
        made = {
            name for one in described.get("functions", ()) for name in one["output_field_names"]
        }
        columns = {
            field["name"]: field["type"].name
            for field in described["fields"]
            if field["name"] not in made
        }
        return columns | {"$meta": "JSON"}

    def start(self, kind: Kind, address: str) -> int:
        """Have the server read a Parquet file from its storage; the number of the job.

        Rows of keys that are stored would be there twice.
        """
        with milvus_errors(f"import {address}"):
            # MilvusClient has no method for it.
            job: int = self._handler.do_bulk_insert(
                self._physical.own(kind), "", [address], context=self._context()
            )
        return job

    def jobs(self, kind: Kind) -> dict[str, int]:
        """The jobs that did not fail, by the address of their file."""
        with milvus_errors("list the imports"):
            jobs = self._handler.list_bulk_insert_tasks(
                MAX_JOBS, self._physical.own(kind), context=self._context()
            )
        return {
            address: job.task_id
            for job in jobs
            if "Fail" not in job.state_name
            for address in str(job.infos.get("files", "")).split(",")
        }

    def state(self, job: int) -> tuple[bool, str]:
        """Whether a job is done, and why it failed, "" where it did not."""
        with milvus_errors("ask for an import"):
            state = self._handler.get_bulk_insert_state(job, context=self._context())
        if "Fail" in state.state_name:
            return False, str(state.failed_reason).strip().splitlines()[0][:300] or "no reason said"
        return state.state_name == "Completed", ""

    def show(self) -> None:
        """Make what was imported be found."""
        with milvus_errors("load what was imported"):
            for kind in SEARCHED:
                self._physical.client.refresh_load(self._physical.of(kind))

    @property
    def _handler(self) -> Any:
        return self._physical.client._get_connection()

    def _context(self) -> Any:
        return self._physical.client._generate_call_context()
