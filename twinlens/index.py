"""``Index``: fill and search a collection in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from cachetools import LRUCache

from twinlens.index_methods import IndexMethods
from twinlens.ingest.options import IngestOptions, SourceOptions, open_items
from twinlens.ingest.sample import Failure
from twinlens.ingest.sources.paths import name_of
from twinlens.search.errors import UsageError
from twinlens.search.models.collection_model import CollectionModel
from twinlens.search.paths import expand_home
from twinlens.search.query.session import Session

if TYPE_CHECKING:
    from twinlens.ingest.integrity.report import CheckReport
    from twinlens.ingest.match import Picture
    from twinlens.ingest.preview import Preview
    from twinlens.ingest.receiver import Receiver
    from twinlens.ingest.report import IngestReport, Progress
    from twinlens.ingest.transfer.export import Exchanged
    from twinlens.ingest.transfer.reindex import ReindexReport
    from twinlens.ingest.upload import Deleted
    from twinlens.search.analysis.audit_report import Audit
    from twinlens.search.analysis.classify import Classified
    from twinlens.search.analysis.describe import Described
    from twinlens.search.analysis.describe_options import DescribeOptions
    from twinlens.search.analysis.duplicates import Group
    from twinlens.search.analysis.evaluate import Evaluation
    from twinlens.search.analysis.index_trials import IndexTrial
    from twinlens.search.analysis.match import PairMatch
    from twinlens.search.analysis.policy.file import Policy
    from twinlens.search.analysis.policy.judge import Judge, Judged
    from twinlens.search.analysis.policy.report import PolicyReport
    from twinlens.search.analysis.policy.stored import Decision, ReviewItem, ReviewState
    from twinlens.search.milvus.collection import Collection, CollectionInfo
    from twinlens.search.milvus.database import Database
    from twinlens.search.milvus.generations import Generation
    from twinlens.search.milvus.layout import LayoutOptions
    from twinlens.search.models.base import Encoder, Precision, Rows
    from twinlens.search.query.browse import Browsed, PictureBrowser
    from twinlens.search.query.engine import SearchEngine
    from twinlens.search.query.facets import Facet, LabelField
    from twinlens.search.query.hits import Hits
    from twinlens.search.query.labels import PictureLabel
    from twinlens.search.query.parts import Id
    from twinlens.search.query.request import Mode, SearchRequest
    from twinlens.search.query.saved import SavedSearch
    from twinlens.search.query.stored import StoredItem
    from twinlens.search.records import FieldType, Target

AnyPath = str | os.PathLike[str]
#: How many tenants' ``Index`` objects are cached.
MAX_TENANTS = 256


class Index(IndexMethods):
    """One collection to fill and search; made by ``twinlens.open``, a context manager."""

    def __init__(
        self,
        database: Database,
        collection: str,
        *,
        model: str | Encoder | CollectionModel = "auto",
        device: str = "auto",
        precision: Precision = "auto",
        tenant: str = "",
    ) -> None:
        self.collection = collection
        self.tenant = tenant
        self._database = database
        #: Made by ``for_tenant``: the model is shared, and the other ``Index`` closes the database.
        self._borrowed = isinstance(model, CollectionModel)
        if not isinstance(model, CollectionModel):
            model = CollectionModel(collection, model, device=device, precision=precision)
        self._model = model
        self._session = Session(database, collection, model, tenant)
        self._tenants: LRUCache[str, Index] = LRUCache(MAX_TENANTS)
        self._tenants_lock = threading.Lock()

    def close(self) -> None:
        """Close the database, so that another process may open the file."""
        if not self._borrowed:
            self._database.close()

    def for_tenant(self, tenant: str) -> Index:
        """The same collection for one tenant's rows: cheap, since it shares database and model.

        Closing it does nothing; the index it came from must stay open.

        Raises:
            UsageError: the name is invalid, the collection has no tenants, or this index is for
                another tenant.
        """
        from twinlens.search.milvus.tenants import check_tenant

        check_tenant(tenant)
        if self.tenant:
            if tenant != self.tenant:
                raise UsageError(f"this index is for the tenant {self.tenant} only")
            return self
        with self._tenants_lock:
            index = self._tenants.get(tenant)
        if index is None:
            index = Index(self._database, self.collection, model=self._model, tenant=tenant)
            with self._tenants_lock:
                self._tenants[tenant] = index
        return index

    def tenants(self) -> list[str]:
        """The tenants that have rows, sorted; [] for a collection without tenants."""
        self._refuse_tenant("list its tenants")
        return self._require_collection().tenants()

    @property
    def backend(self) -> str:
        """The name and version of the Milvus that holds the collection."""
        return self._database.capabilities.label

    def ingest(self, *paths: AnyPath, **options: Unpack[IngestOptions]) -> IngestReport:
        """Store pictures and captions; what is stored already is not encoded again.

        Args:
            paths: folders of pictures, single pictures, caption files, tar shards, zips, tables,
                lists of URLs, embeddings; here, or at addresses such as ``s3://bucket/folder``.
            options: how to read the paths: captions, include, exclude, leave_out, image_column,
                caption_column, embeddings_model, refresh, allow_networks, see
                ``twinlens.ingest.options.SourceOptions``; how to run: prune, retry_failed, report,
                progress, cluster, bulk, see ``RunOptions`` there; the layout of a new collection:
                index, vectors, shards, replicas, mmap, see
                ``twinlens.search.milvus.layout.LayoutOptions``.

        Returns:
            Counts, and the items that failed in ``failed``; they raise nothing.

        Raises:
            UsageError: a path does not exist, an option is invalid, or the collection has another
                layout.
            SourceError: a caption file cannot be read, or there are no pictures at all.
            ModelError: the model cannot be loaded.
            ClusterError: the cluster cannot be reached, or failed.
            StoreError: Milvus refused a call. What was written is kept; run it again to resume.
        """
        from twinlens.ingest.run import ingest

        return ingest(self._session, paths, options)

    def preview(self, *paths: AnyPath, **source: Unpack[SourceOptions]) -> Preview:
        """Count what ``ingest`` would do with the same arguments, without reading pictures."""
        from twinlens.ingest.preview import preview
        from twinlens.ingest.report import Notices

        notices = Notices()
        collection = self._session.refresh()
        declared = self._model.check_embeddings(
            source.get("embeddings_model", ""), self._session.fingerprint
        )
        items = open_items(paths, declared, notices.add, **source)
        found = preview(collection, items, map(name_of, paths))
        return replace(found, notices=notices.listed, notice_count=notices.count)

    def _search(self, requests: Sequence[SearchRequest]) -> list[Hits]:
        return self._session.with_engine(lambda engine: engine.search_requests(requests))

    def _embed_texts(self, texts: Sequence[str]) -> Rows:
        from twinlens.search.models.batches import encode_texts

        self._require_collection()
        return encode_texts(self._load_encoder(), texts)

    def _embed_images(self, images: Iterator[bytes]) -> Rows:
        from twinlens.search.analysis.pictures import encode_images

        self._require_collection()
        return encode_images(self._load_encoder(), images)

    @property
    def engine(self) -> SearchEngine:
        """The engine behind ``search``; replaced after each ingest."""
        return self._session.engine()

    def evaluate(self, *pairs: AnyPath, max_queries: int = 10_000, seed: int = 0) -> Evaluation:
        """Measure retrieval in both directions; see ``twinlens.search.analysis.evaluate``.

        Args:
            pairs: caption files whose captions are the queries; default: the stored captions. Their
                pictures must be stored under the same paths, but the files may be gone. Pictures
                that are neither stored nor readable are ``missing``, other unstored ones
                ``unpaired``.
            max_queries: at most this many queries each way, drawn at random; 0 for all.
            seed: of everything random.

        Raises:
            UsageError: no stored picture has a caption.
        """
        from twinlens.search.analysis.evaluate import Pair, evaluate

        collection = self._require_collection()
        if not pairs:
            return evaluate(collection, max_queries=max_queries, seed=seed)
        encoder = self._load_encoder()
        queries = (
            Pair(item.uri, item.captions, item.reason if isinstance(item, Failure) else "")
            for item in open_items(pairs)
        )
        return evaluate(
            collection, pairs=queries, encoder=encoder, max_queries=max_queries, seed=seed
        )

    def compare_indexes(self, index_types: Sequence[str] = ()) -> Iterator[IndexTrial]:
        """Compare a server's index types; see ``twinlens.search.analysis.index_trials``."""
        from twinlens.search.analysis.index_trials import compare_indexes

        return compare_indexes(self._database, self._require_collection(), index_types)

    def _classify(
        self,
        labels: Sequence[str],
        paths: Sequence[AnyPath],
        where: str,
        templates: Sequence[str],
        top: int,
    ) -> Iterator[Classified]:
        from twinlens.search.analysis.classify import (
            TEMPLATES,
            Classifier,
            classify_pictures,
            classify_stored,
        )

        collection = None if paths else self._require_collection()
        encoder = self._load_encoder()
        classifier = Classifier(encoder, labels, templates or TEMPLATES)
        if collection is not None:
            expression = self._compile_filter(where)
            return classify_stored(classifier, collection, top=top, expression=expression)
        pictures = ((item.uri, item.load) for item in open_items(paths) if item.load is not None)
        return classify_pictures(classifier, encoder, pictures, top=top)

    def describe(
        self,
        *paths: AnyPath | Id,
        missing: bool = False,
        where: str = "",
        **options: Unpack[DescribeOptions],
    ) -> Iterator[Described]:
        """Propose texts for pictures without captions: stored captions of others, or labels.

        A proposal is a guess with its probability, never a fact. See
        ``twinlens.search.analysis.describe``.

        Args:
            paths: pictures to describe, as ``ingest`` takes them, which are not stored; or ids and
                paths of stored pictures.
            missing: describe all stored pictures without captions, in place of paths.
            where: with ``missing``, a filter for them.
            options: count, min_probability, labels; see
                ``twinlens.search.analysis.describe_options``.

        Returns:
            One result for each picture. A picture that has captions keeps them, and gets no
            proposals; one that cannot be read has an error.

        Raises:
            UsageError: neither paths nor ``missing``, an unknown picture, or an invalid option.
        """
        from twinlens.ingest.describe import describe

        return describe(self._session, paths, missing=missing, where=where, options=options)

    def match(
        self,
        images: Picture | Iterable[Picture] = (),
        texts: str | Iterable[str] = (),
        *,
        pairs: AnyPath | Iterable[tuple[Picture, str]] | None = None,
        references: str | Sequence[str] = (),
        **source: Unpack[SourceOptions],
    ) -> Iterator[PairMatch]:
        """Score how well texts fit pictures, compared with this collection's; nothing is stored.

        Uses the collection's model, and its pictures and texts as unrelated pairs. Takes and
        returns what ``twinlens.match`` does; ``Id("...")`` is a stored picture, by id or path.

        Raises:
            CollectionNotFoundError: there is no collection; ``twinlens.match`` needs none.
            UsageError, SourceError, ModelError: see ``twinlens.match``.
        """
        from twinlens.ingest.match import match_inputs
        from twinlens.search.analysis.match import PairCalibration
        from twinlens.search.analysis.matcher import Matcher
        from twinlens.search.query.stored import find_images

        collection = self._require_collection()
        inputs = match_inputs(
            images,
            texts,
            pairs=pairs,
            stored=lambda names: find_images(collection, names),
            **source,
        )
        encoder = self._load_encoder(bulk=pairs is not None)
        calibration = PairCalibration.of_collection(self.engine.calibrations, encoder)
        return Matcher(encoder, calibration, references).match(inputs)

    def moderate(
        self,
        policy: AnyPath | Policy,
        *paths: AnyPath,
        where: str = "",
        again: bool = False,
        dry_run: bool = False,
        on_item: Callable[[Judged], object] | None = None,
        progress: Progress | None = None,
    ) -> PolicyReport:
        """Judge pictures by a policy, and store what it finds in stored ones.

        Stored pictures get fields that filters can name; what a policy holds back is left out of
        searches. See ``docs/guide/moderation.md`` and ``twinlens.search.analysis.policy``.

        Args:
            policy: a policy file, or one that was read.
            paths: pictures to judge, as ``ingest`` takes them; nothing is stored. Default: the
                stored pictures which this policy has not judged yet.
            where: a filter for stored pictures.
            again: judge all stored pictures, with new thresholds. Reviewers' decisions stay.
            dry_run: store nothing.
            on_item: called with each picture.
            progress: a progress bar like ``tqdm``, updated with each stored picture.

        Returns:
            Counts and thresholds. An interrupted run is resumed by the next.

        Raises:
            UsageError: the policy is not valid, or too few pictures are there to compare with.
            StoreError: Milvus refused a call. What was written is kept.
        """
        from twinlens.ingest.moderate import moderate

        return moderate(
            self._session,
            policy,
            paths,
            where=where,
            again=again,
            dry_run=dry_run,
            on_item=on_item,
            progress=progress,
        )

    def open_judge(self, policy: Policy) -> Judge:
        """Encode a policy with the collection's model, and choose thresholds from its pictures.

        Raises:
            UsageError: too few pictures are there to compare with.
        """
        from twinlens.ingest.moderate import open_judge

        return open_judge(policy, self._load_encoder(), self._session.refresh())

    def measure_policy(self, policy: AnyPath | Policy, labels: AnyPath) -> PolicyReport:
        """Measure a policy: hits and false alarms of each concept on labelled pictures.

        Args:
            policy: a policy file, or one that was read.
            labels: a CSV file or JSON lines of path and concept; see
                ``twinlens.search.analysis.policy.measure.read_labels``.

        Raises:
            UsageError: one of the files is not valid.
        """
        from twinlens.ingest.moderate import measure_policy

        return measure_policy(self._session, policy, labels)

    def _review(self, state: ReviewState, where: str, after: str) -> list[ReviewItem]:
        from twinlens.search.analysis.policy.stored import list_review

        return list_review(self._require_collection(), state, where, after)

    def _decide(self, decision: Decision, pictures: Sequence[str]) -> int:
        from twinlens.search.analysis.policy.stored import decide

        return decide(self._session.refresh() or self._require_collection(), pictures, decision)

    def duplicates(self, threshold: float = 0.95, *, where: str = "") -> list[Group]:
        """Group near-duplicate pictures; see ``twinlens.search.analysis.duplicates``."""
        from twinlens.search.analysis.duplicates import duplicates

        return duplicates(self._require_collection(), threshold, self._compile_filter(where))

    def audit(
        self,
        *,
        limit: int = 50,
        where: str = "",
        only: Sequence[str] = (),
        below: float = 0.0,
        out: AnyPath | None = None,
        progress: Progress | None = None,
    ) -> Audit:
        """Check stored captions against their pictures; see ``twinlens.search.analysis.audit``.

        Nothing is encoded again.

        Args:
            limit: how many pairs to list, the least likely first.
            where: a filter for the pictures.
            only: list only captions with one of these problems: "empty", "cut-off", "script",
                "too-long".
            below: count the pairs that are less likely than this, from 0 to 1.
            out: a file to write these to, for the option ``leave_out`` of ``ingest``.
            progress: a progress bar like ``tqdm``, updated with every caption.

        Raises:
            UsageError: an option is invalid, or no stored picture has a caption.
        """
        from twinlens.search.analysis.audit import audit
        from twinlens.search.analysis.match import PairCalibration

        expression = self._compile_filter(where)
        engine = self.engine
        return audit(
            engine.collection,
            PairCalibration.of_collection(engine.calibrations, self._load_encoder()),
            expression=expression,
            limit=limit,
            only=only,
            below=below,
            out=out,
            progress=progress.update if progress is not None else None,
        )

    def export(self, folder: AnyPath) -> Exchanged:
        """Write the collection to a new folder; see ``twinlens.ingest.transfer.export``."""
        from twinlens.ingest.transfer.export import export_collection

        return export_collection(self._require_collection(), Path(folder))

    def import_(self, folder: AnyPath) -> Exchanged:
        """Import an export, row by row as it was; see ``twinlens.ingest.transfer.export``.

        Raises:
            SourceError: the folder is not an export, or is damaged.
            ModelMismatchError: the collection holds embeddings of another model.
        """
        from twinlens.ingest.sources.export_manifest import Manifest
        from twinlens.ingest.transfer.export import import_collection

        source = expand_home(folder)
        manifest = Manifest.read(source)
        collection = self._session.refresh()
        self._model.check_embeddings(manifest.fingerprint, self._session.fingerprint)
        try:
            collection = collection or self._session.create(manifest.fingerprint)
            return import_collection(collection, source, manifest)
        finally:
            self._session.reset_engine()

    def _item(self, name: str) -> StoredItem:
        from twinlens.search.query.stored import find_item

        return find_item(self._require_collection(), name)

    def _thumbnail(self, picture: str, side: int) -> bytes:
        from twinlens.search.images.originals import thumbnail

        return thumbnail(self._image(picture), side)

    def _image(self, picture: str) -> bytes:
        from twinlens.ingest.originals import Originals
        from twinlens.search.images.originals import read_original

        rows = self._require_collection().get("images", [picture], ["id", "path", "paths"])
        if not rows:
            raise UsageError(f"no picture with the id {picture!r} is stored")
        return read_original(rows[0], Originals())

    def _browse(self, where: str, offset: int, limit: int, *, include_held: bool) -> Browsed:
        return self._browser.browse(
            self._require_collection(), where, offset, limit, include_held=include_held
        )

    def _facets(self, where: str, *, include_held: bool) -> tuple[Facet, ...]:
        return self._browser.facets(self._require_collection(), where, include_held=include_held)

    def _labels(self, field: LabelField) -> list[PictureLabel]:
        from twinlens.search.query.labels import list_labels

        return list_labels(self._require_collection(), field)

    def _change_label(
        self, field: LabelField, name: str, pictures: Sequence[str], *, add: bool
    ) -> int:
        from twinlens.search.query.labels import change_label
        from twinlens.search.query.stored import find_stored

        collection = self._session.refresh() or self._require_collection()
        ids = [one.id for one in find_stored(collection, pictures).values()]
        return change_label(collection, field, name, ids, add=add)

    def saved_searches(self) -> list[SavedSearch]:
        """The saved searches of the collection, sorted by name; of a tenant, only its own."""
        from twinlens.search.query.saved import list_saved

        return list_saved(self._require_collection())

    def _save(self, search: SavedSearch) -> SavedSearch:
        from twinlens.search.query.saved import save

        return save(self._session.refresh() or self._require_collection(), search)

    def _delete_saved(self, name: str) -> None:
        from twinlens.search.query.saved import delete

        delete(self._session.refresh() or self._require_collection(), name)

    @cached_property
    def _browser(self) -> PictureBrowser:
        from twinlens.search.query.browse import PictureBrowser

        return PictureBrowser()

    def _fields(self, target: Target) -> dict[str, FieldType]:
        return dict(sorted(self._require_collection().fields(target).items()))

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The search modes: "dense", and "hybrid" and "text" with a full-text index."""
        from twinlens.search.query.request import MODES

        return MODES if self._require_collection().full_text else ("dense",)

    def info(self) -> CollectionInfo:
        """The collection's counts, including everything written so far, and its model.

        Without a tenant they are the counts of all tenants together.
        """
        return self._require_collection().info()

    def delete(self, *paths: AnyPath) -> Deleted:
        """Remove pictures by path, folders with all below them; return how many were removed.

        The files stay. A picture that is also stored under another path stays, too: the attribute
        ``paths`` of the result counts all removed paths.
        """
        from twinlens.ingest.prune import remove_paths

        collection = self._session.refresh() or self._require_collection()
        return remove_paths(collection, list(map(name_of, paths))).deleted

    def intake(self, judge: Judge | None = None) -> Receiver:
        """A writer for items that a client reads and sends in parts, as the server does.

        Args:
            judge: judges new pictures by a policy before they are stored.
        """
        from twinlens.ingest.receiver import Receiver

        return Receiver(self._session.refresh, self._create_collection, self._load_encoder, judge)

    def reindex(
        self,
        model: str | Encoder = "",
        *,
        memory: float = 0.0,
        drop_unreadable: bool = False,
        progress: Progress | None = None,
        **layout: Unpack[LayoutOptions],
    ) -> ReindexReport:
        """Rebuild the collection for another model or index, and switch to it once complete.

        Pictures are read again from their files. The previous generation stays for ``rollback``,
        until ``drop_old``. An interrupted run is resumed by the next.

        Args:
            model: the new encoder, a name or an object; "" for the present one.
            memory: GiB of memory of all the server's query nodes, from which "auto" chooses an
                index.
            drop_unreadable: go on without pictures that cannot be read again.
            progress: a progress bar like ``tqdm``, updated with every row.
            layout: what to change; see ``twinlens.search.milvus.layout.LayoutOptions``. A new
                number of replicas alone needs no rebuild.

        Returns:
            What happened; it is not ``switched`` if pictures could not be read again.

        Raises:
            UnsupportedError: the backend does not have the index; nothing is built.
            ModelError: the model cannot be loaded.
            StoreError: Milvus refused. What was written is kept; run it again to resume.
        """
        from twinlens.ingest.transfer.reindex import reindex

        self._refuse_tenant("reindex")
        return reindex(
            self._session,
            model,
            memory=memory,
            drop_unreadable=drop_unreadable,
            progress=progress,
            layout=layout,
        )

    def generations(self) -> list[Generation]:
        """All generations of the collection: the active one, earlier and unfinished ones."""
        return self._database.generations(self._require_collection().name)

    def rollback(self) -> Generation:
        """Switch back to the previous generation.

        What was ingested since is not in it; the next ingest stores it again.

        Raises:
            UsageError: there is no previous generation.
        """
        from twinlens.ingest.transfer.reindex import rollback

        self._refuse_tenant("roll back")
        return rollback(self._session)

    def drop_old(self) -> list[int]:
        """Delete every generation but the active one; return their numbers."""
        from twinlens.ingest.transfer.reindex import drop_old

        self._refuse_tenant("drop old generations")
        return drop_old(self._session)

    def check(
        self,
        *,
        repair: bool = False,
        progress: Callable[[int, str], Progress | None] = lambda total, unit: None,
    ) -> CheckReport:
        """Check the collection: its files, rows and vectors; see ``twinlens.check``."""
        from twinlens.ingest.integrity.check import check

        self._refuse_tenant("check")
        try:
            return check(self._database, [self.collection], repair=repair, bars=progress)
        finally:
            if repair:
                self._session.reset_engine()

    def drop(self) -> None:
        """Delete the collection; for a tenant, only the tenant's rows."""
        if self.tenant:
            self._require_collection().delete_all()
            return
        if not self._database.generations(self.collection):  # an unfinished copy counts, too
            self._require_collection()
        self._database.drop(self.collection)
        self._session.refresh()

    def _compile_filter(self, where: str) -> str:
        """Compile a filter of pictures to a Milvus expression."""
        from twinlens.search.filters import compile_filter

        collection = self._require_collection()
        return compile_filter(where, collection.fields("images"), collection.capabilities)

    def _require_collection(self) -> Collection:
        return self._session.require_collection()

    def _create_collection(self) -> Collection:
        return self._session.create(self._model.load(bulk=True).fingerprint)

    def _load_encoder(self, *, bulk: bool = False) -> Encoder:
        return self._session.load_encoder(bulk=bulk)

    def _refuse_tenant(self, action: str) -> None:
        if self.tenant:
            raise UsageError(f"cannot {action} for one tenant: leave the tenant out")
