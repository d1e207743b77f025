"""Check a database: the files of Milvus Lite, and the rows of its collections; repair them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from twinlens.ingest.integrity.report import CheckReport
from twinlens.ingest.integrity.row_repair import outdate_all, repair_rows
from twinlens.ingest.integrity.rows import RowDamage, check_rows
from twinlens.search.errors import CollectionNotFoundError, StoreError, first_line
from twinlens.search.frozen import FrozenDict
from twinlens.search.milvus.collection import Collection
from twinlens.search.milvus.connection import is_locked
from twinlens.search.milvus.database import Database
from twinlens.search.milvus.generations import KINDS, PHYSICAL
from twinlens.search.milvus.lite.client import LiteClient
from twinlens.search.milvus.lite.integrity.check import FileCheck
from twinlens.search.milvus.lite.integrity.damage import Damage, DamageKind
from twinlens.search.milvus.lite.integrity.repair import locked, repair_files

if TYPE_CHECKING:
    from twinlens.ingest.report import Progress

#: Makes a progress bar like ``tqdm`` for a total and a unit.
Bars = Callable[[int, str], "Progress | None"]
#: Kinds of damage that do not keep rows from being compared.
_BESIDE_ROWS = ("checksum", "leftover")

#: Seconds after which rows that seem wrong are compared again, while others write.
WAIT = 2.0


def check(
    database: Database,
    names: Sequence[str] = (),
    *,
    repair: bool = False,
    bars: Bars = lambda total, unit: None,
) -> CheckReport:
    """Check a database; with ``repair``, repair what can be repaired.

    Reads every file and every row, in bounded memory. Others may read and write meanwhile, except
    during a repair of Milvus Lite.

    Args:
        database: the database.
        names: the collections to check; default: all.
        repair: whether to repair, after copying metadata aside. What the ledger names and what is
            not stored is forgotten, so that the next ingest reads it again.
        bars: makes progress bars.

    Raises:
        StoreLockedError: another process writes to a database that is to be repaired.
        StoreError: the server failed, or a file cannot be written.
    """
    return _Check(database, names, repair=repair, bars=bars).run()


class _Check:
    def __init__(
        self, database: Database, names: Sequence[str], *, repair: bool, bars: Bars
    ) -> None:
        self.database = database
        self.names = list(names)
        self.repair = repair
        self.bars = bars
        self.damage: list[Damage] = []
        self.notes: list[Damage] = []
        self.again: set[str] = set()
        self.counts: dict[str, int] = {}
        self.changed: set[str] = set()
        self.aside = ""
        #: Whether others may be writing at the same time.
        self.others_write = True

    def run(self) -> CheckReport:
        began = time.perf_counter()
        client = self.database.client
        if isinstance(client, LiteClient):
            self._files(client)
        for name in self._names():
            self._collection(name)
        return CheckReport(
            damage=tuple(self.damage),
            notes=tuple(self.notes),
            collections=FrozenDict(self.counts),
            ingest_again=tuple(sorted(self.again)),
            aside=self.aside,
            seconds=time.perf_counter() - began,
        )

    def _wanted(self, physical: str) -> bool:
        match = PHYSICAL.fullmatch(physical)
        return match is not None and (not self.names or match["name"] in self.names)

    # ---- Files

    def _files(self, client: LiteClient) -> None:
        path = client.folder.path
        self.others_write = client.is_writing or is_locked(str(path))
        found = self._check_files(path, writing=self.others_write)
        is_damaged = any(not one.harmless for one in found)
        # Notes are no reason to stop somebody who writes.
        if self.repair and found and (is_damaged or not is_locked(str(path))):
            client.stop_writing()
            with locked(path):
                # Nobody writes now, so that what seemed wrong for a moment is right.
                found = self._check_files(path)
                done = repair_files(path, found)
                client.reload()
                left = {
                    (one.kind, one.place) for one in self._check_files(path) if not one.harmless
                }
            self.changed = done.changed
            self.aside = str(done.aside or "")
            found = [
                replace(one, repaired="") if (one.kind, one.place) in left else one
                for one in done.damage
            ]
        self.damage += [one for one in found if not one.harmless]
        self.notes += [one for one in found if one.harmless]

    def _check_files(self, path: Path, *, writing: bool = False) -> list[Damage]:
        checked = FileCheck(path, self._wanted, writing=writing)
        bar = self.bars(checked.bytes(), "B")
        if bar is not None:
            checked = FileCheck(path, self._wanted, writing=writing, progress=bar.update)
        return list(checked.run())

    # ---- Rows

    def _names(self) -> list[str]:
        try:
            there = self.database.names()
        except StoreError as error:
            if not self.damage:
                raise
            self._note_unread("all collections", error)
            return []
        missing = sorted(set(self.names) - set(there))
        if missing and not self.damage:
            self.database.collection(missing[0])  # which says what there is
        return [name for name in there if not self.names or name in self.names]

    def _note_unread(self, name: str, error: Exception) -> None:
        self.notes.append(
            Damage(
                "data file", name, f"the rows were not compared: {first_line(error)}", harmless=True
            )
        )

    def _collection(self, name: str) -> None:
        folders = {f"/{name}_{kind}_g" for kind in KINDS}
        unread = [
            one for one in self.damage
            if not one.repaired and one.kind not in _BESIDE_ROWS
            and any(part in one.place for part in folders)
        ]  # fmt: skip
        if unread:
            self._note_unread(name, StoreError("its files are damaged"))
            return
        try:
            whole = self.database.collection(name)
        except CollectionNotFoundError:
            return  # dropped meanwhile
        self._compare_tokens(whole)
        outdated = {whole.physical("images"), whole.physical("texts")} & self.changed
        for collection in whole.per_tenant():
            if outdated:
                outdate_all(collection)
            self._rows(collection)

    def _compare_tokens(self, collection: Collection) -> None:
        """The pictures, texts and ledger of a collection were created together."""
        tokens = {
            (collection.describe(kind).get("properties") or {}).get("twinlens.token")
            for kind in KINDS
        }
        if len(tokens) > 1:
            self.damage.append(
                Damage(
                    "schema",
                    collection.name,
                    "its pictures, texts and ledger were not created together: files of another "
                    "database were copied into this one",
                )
            )

    def _rows(self, collection: Collection) -> None:
        label = collection.name + (f", tenant {collection.tenant}" if collection.tenant else "")
        total = sum(collection.count(kind) for kind in KINDS)
        bar = self.bars(total, " rows")
        found = check_rows(collection, (lambda count: None) if bar is None else bar.update)
        if found and self.others_write:
            time.sleep(WAIT)
            found = found.both(check_rows(collection))
        self.counts[label] = total
        damage = _row_damage(label, found)
        if damage and self.repair:
            again = repair_rows(collection, found)
            self.again.update(again)
            left = {one.kind for one in _row_damage(label, check_rows(collection))}
            damage = [
                one if one.kind in left else replace(one, repaired=_REPAIRED[one.kind])
                for one in damage
            ]
        elif damage:
            self.again |= {*found.lost, *found.incomplete}
        self.damage += damage


_REPAIRED: dict[DamageKind, str] = {
    "lost picture": "forgotten: the next ingest reads them again",
    "lost text": "the next ingest reads the captions again",
    "stray picture": "given back its path, or deleted if its file is gone or is another picture",
    "stray text": "deleted",
    "vector": "deleted: the next ingest encodes them again",
}


def _row_damage(label: str, found: RowDamage) -> list[Damage]:
    listed: list[tuple[DamageKind, list[str], str]] = [
        ("lost picture", found.lost, "in the ledger without a stored picture"),
        ("lost text", found.incomplete, "in the ledger without one of its captions"),
        ("stray picture", found.stray_images, "stored without a path in the ledger"),
        ("stray text", found.stray_texts, "stored without a path in the ledger"),
        ("vector", found.bad_images + found.bad_texts, "stored with a vector not of length 1"),
    ]
    return [
        Damage(kind, label, f"{len(items):,} {what}, such as {items[0]}")
        for kind, items, what in listed
        if items
    ]
