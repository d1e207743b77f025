"""Copy a collection to another database: from Milvus Lite to a server, back, or from file to file.

The copy has the images, texts and ledger of the served generation, with vectors, fingerprint and
field names, for every tenant. It is built as a generation that is not served, so that no search
sees half of it. An interrupted run is resumed by the next, which writes only missing or changed
rows. Before the copy is served, all rows are counted and a sample is compared.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np

from twinlens.ingest.report import Progress
from twinlens.ingest.transfer.diff import (
    FIELDS,
    KEYS,
    ORDER,
    RowChunk,
    delete_extra,
    tenant_pairs,
    write_differences,
)
from twinlens.search.errors import (
    ModelMismatchError,
    OptionError,
    StoreError,
    UnsupportedError,
    UsageError,
)
from twinlens.search.milvus.capabilities import MAX_LIMIT
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.database import Database, check_name
from twinlens.search.milvus.expressions import quote
from twinlens.search.milvus.layout import Layout, LayoutOptions
from twinlens.search.records import ID_LENGTH, Kind, Row, Target

#: Rows per page. Each page costs Milvus Lite a pass over all rows: it read 100,000 rows
#: 1.5 times as fast in pages of 8,000 as in pages of 4,000. Servers limit the size of a response.
PAGE = 4_000
LITE_PAGE = 8_000
#: How many images, and how many texts, to compare at the end.
SAMPLE = 1_000
#: How many rounds to make while the source still changes.
ROUNDS = 5
_SEARCHED: tuple[Target, ...] = ("images", "texts")


@dataclass(frozen=True, slots=True)
class CopyReport:
    """The outcome of one copy.

    Attributes:
        collection: the name of the copy.
        images, texts, files: rows of the copy, as many as the source has.
        written: rows that this run wrote; the others were written by an earlier run.
        compared: rows compared in full, vectors included.
        seconds: wall time, including counting and comparing.
    """

    collection: str
    images: int
    texts: int
    files: int
    written: int
    compared: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        return self.written / self.seconds if self.seconds else 0.0


def copy(
    source: Database,
    target: Database,
    name: str,
    to: str = "",
    *,
    sample: int = SAMPLE,
    progress: Callable[[int], Progress | None] | None = None,
    **layout: Unpack[LayoutOptions],
) -> CopyReport:
    """Copy ``name`` in ``source`` to ``to`` in ``target``, and serve it.

    Extra rows of an unfinished copy are deleted. A finished copy may have rows of its own, so
    nothing is deleted from it.

    Args:
        source, target: the databases; they may be the same.
        name: of the collection.
        to: the copy's name; default ``name``.
        sample: how many images, and how many texts, to compare at the end; 0 for none.
        progress: called with the number of rows; returns an object like ``tqdm``.
        layout: the layout of a new copy: see ``twinlens.search.milvus.layout``. The default is the
            best for the target, with the source's vector type where the target has it.

    Raises:
        UsageError: source and copy are the same, or the copy exists with another layout.
        ModelMismatchError: the target holds embeddings of another model under that name.
        UnsupportedError: the target does not support the layout. Nothing is created.
        StoreError: Milvus failed, or the copy differs from its source. Written rows are kept; run
            it again to resume.
    """
    began = time.perf_counter()
    to = to or name
    check_name(to)
    if not 0 <= sample <= MAX_LIMIT:
        raise OptionError(f"must be from 0 to {MAX_LIMIT} rows, not {sample}", "sample")
    if (source.uri, name) == (target.uri, to):
        raise UsageError(f"{name} in {source.uri} would be copied onto itself: choose another name")
    old = source.collection(name)
    new = _target(old, target, to, layout)
    shown = progress(_rows(old)) if progress is not None else None
    new.check_loaded()
    copier = CollectionCopier(old, new, shown)
    for _ in range(ROUNDS):
        copier.round()
        if not copier.differing:
            break
    else:
        advice = "run it again"
        if new.generation.complete:
            advice = "it may have rows of its own: drop it first, or name another with --to"
        raise StoreError(f"the copy has {', '.join(copier.differing)}: {advice}")
    compared = sum(
        _compare(part, beside, kind, sample) for part, beside in copier.parts for kind in _SEARCHED
    )
    if not new.generation.complete:
        new.set_state(complete=True)
    new.flush()
    if not target.exists(to) or target.collection(to).generation.number != new.generation.number:
        target.switch(to, new.generation.number)
    for generation in target.generations(to):
        if not generation.complete:  # an unfinished copy with another layout
            target.drop_generation(to, generation.number)
    return CopyReport(
        collection=to,
        images=copier.counts["images"],
        texts=copier.counts["texts"],
        files=copier.counts["files"],
        written=copier.written,
        compared=compared,
        seconds=time.perf_counter() - began,
    )


def _target(old: Collection, target: Database, to: str, options: LayoutOptions) -> Collection:
    """Return the generation to write to: the one served under the name, else a new one."""
    model = old.fingerprint
    asked = replace(Layout().changed(**options), tenants=old.generation.layout.tenants)
    for generation in target.generations(to):
        if generation.fingerprint.digest != model.digest:
            raise ModelMismatchError(
                f"{to} in {target.uri} holds embeddings of {generation.fingerprint.label}, but "
                f"the rows to copy have those of {model.label}: choose another name with --to"
            )
    if target.exists(to):
        there = target.collection(to)
        layout = there.generation.layout
        if layout.tenants != asked.tenants:
            raise UsageError(f"only one of {old.name} and {to} has tenants: choose another name")
        layout.check_matches(asked, to)
        there.check_open()
        return there
    if "vectors" not in options:
        try:
            kept = replace(asked, vectors=old.generation.layout.vectors)
            return target.begin(to, model, target.check_layout(kept))
        except UnsupportedError:
            pass  # 16-bit vectors become 32-bit, which loses nothing
    return target.begin(to, model, target.check_layout(asked))


class CollectionCopier:
    """Writes the rows of one collection to another until they agree."""

    def __init__(self, old: Collection, new: Collection, progress: Progress | None) -> None:
        self._old = old
        self._new = new
        self._progress = progress
        self.written = 0
        #: Source and copy, for each tenant.
        self.parts: list[tuple[Collection, Collection]] = []
        #: Rows of the copy after the last round, and the counts that differ from the source.
        self.counts: Counter[Kind] = Counter()
        self.differing: list[str] = []

    def round(self) -> None:
        """Compare and write all rows; from the second round on also delete extra rows."""
        ours, again = not self._new.generation.complete, bool(self.differing)
        self.parts = tenant_pairs(self._old, self._new)
        if ours:
            self._delete_removed_tenants()
        for part, beside in self.parts:
            for kind in ORDER:
                beside.copy_fields(kind, part)
                if ours and again:
                    delete_extra(part, beside, kind)
                self._fill(part, beside, kind, again)
            beside.saved.copy(part.saved, exactly=ours)
        self._count()

    def _count(self) -> None:
        self.counts, self.differing = Counter(), []
        for part, beside in self.parts:
            whose = f" of {part.tenant}" if part.tenant else ""
            for kind in ORDER:
                has, copied = part.count(kind), beside.count(kind)
                self.counts[kind] += copied
                if has != copied:
                    self.differing.append(f"{copied} {kind}{whose} instead of {has}")

    def _fill(self, part: Collection, beside: Collection, kind: Kind, again: bool) -> None:
        """Write the rows that are missing or changed."""

        def write(chunk: RowChunk) -> None:
            # After a failure half-way it is unknown which rows were inserted: upsert them all.
            missing, changed = ([], chunk.rows) if chunk.retried else (chunk.missing, chunk.changed)
            beside.insert(kind, missing)
            beside.upsert(kind, changed)
            self.written += len(missing) + len(changed)
            if self._progress is not None and not again:
                self._progress.update(len(chunk.rows))

        page = LITE_PAGE if part.capabilities.lite else PAGE
        write_differences(
            part, beside, kind, write, page=page, vectors=kind != "files", strong=again
        )

    def _delete_removed_tenants(self) -> None:
        tenants = {part.tenant for part, _ in self.parts}
        for beside in self._new.per_tenant():
            if beside.tenant not in tenants:
                beside.delete_all()


def _rows(collection: Collection) -> int:
    return sum(part.count(kind) for part in collection.per_tenant() for kind in ORDER)


def _compare(part: Collection, beside: Collection, kind: Target, sample: int) -> int:
    """Compare a random sample of rows; return how many.

    Raises:
        StoreError: a row is missing in the copy, or differs from its source.
    """
    rows = _drawn(part, kind, sample)
    copies = {
        row["id"]: row
        for row in beside.get(kind, [row["id"] for row in rows], [*FIELDS[kind], "vector"])
    }
    stored = np.float16 if beside.generation.layout.half else np.float32
    for row in rows:
        copied = copies.get(row["id"])
        if copied is None:
            raise StoreError(f"{row['id']} of {kind} is not in the copy: run it again to resume")
        wanted = np.asarray(row.pop("vector"), dtype=np.float32).astype(stored).astype(np.float32)
        if not np.array_equal(np.asarray(copied.pop("vector"), dtype=np.float32), wanted):
            raise StoreError(f"the vector of {row['id']} of {kind} differs in the copy")
        if copied != row:
            raise StoreError(f"{row['id']} of {kind} differs in the copy")
    return len(rows)


def _drawn(collection: Collection, kind: Target, sample: int) -> list[Row]:
    """Draw about ``sample`` rows: ids are hashes, so a range of ids is a random sample."""
    if sample < 1:
        return []
    fields = [*FIELDS[kind], "vector"]
    count = collection.count(kind)
    if count <= sample:
        return collection.query(kind, f'{KEYS[kind]} != ""', fields, max(1, sample))
    whole = 16**8
    width = min(whole, int(1.1 * sample / count * whole) + 1)
    start = random.randrange(whole - width + 1)  # noqa: S311 - not for cryptography
    since = f"id >= {quote(f'{start:08x}')}"
    until = f"id < {quote(f'{start + width:08x}'[:ID_LENGTH])}" if start + width < whole else since
    return collection.query(kind, f"{since} and {until}", fields, sample)
