"""Pydantic models of request bodies: they forbid unknown fields and bound all sizes."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    JsonValue,
    Tag,
    create_model,
)
from pydantic_core import CoreSchema

from twinlens.ingest.upload import PutOptions, UploadKind
from twinlens.search.analysis import describe_options
from twinlens.search.analysis.describe_options import DescribeOptions
from twinlens.search.analysis.policy.stored import Decision
from twinlens.search.analysis.projection import Method
from twinlens.search.milvus.capabilities import MAX_LIMIT
from twinlens.search.options import options_of
from twinlens.search.query.labels import MAX_NAME
from twinlens.search.query.parts import MAX_PARTS, MAX_QUERY_TEXT, MAX_WEIGHT
from twinlens.search.query.request import OPTIONS, SHARED, SearchOptions
from twinlens.search.query.saved import MAX_NAME as MAX_SEARCH_NAME
from twinlens.search.query.saved import NOT_SAVED
from twinlens.search.records import ID_LENGTH, MAX_CAPTIONS, MAX_PATH_BYTES, MAX_TEXT_BYTES
from twinlens.server.archive import MAX_PICTURES
from twinlens.server.settings import Settings

#: Characters of a URL.
MAX_URL = 2_048
#: Numbers in a vector.
MAX_DIM = 32_768
#: Characters of a cursor, which contains the query's embedding and the hits shown so far.
MAX_CURSOR = 1 << 20
#: Characters of an option, where the server takes fewer than the library.
_LENGTHS = {"where": {"max_length": MAX_QUERY_TEXT}, "cursor": {"max_length": MAX_CURSOR}}
#: Templates of labels in one request.
MAX_TEMPLATES = 32
#: Paths or ids in one deletion.
MAX_DELETED = 1_000
#: Pictures in one request for points of the map.
MAX_POINTS = 1_000
_INT64 = 2**63 - 1


def _end_with_first_mistake(schema: Any) -> None:
    """Set ``fail_fast`` on all lists of a schema of pydantic's."""
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        for name, inner in schema.items():
            if name not in ("metadata", "serialization"):
                _end_with_first_mistake(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _end_with_first_mistake(inner)


class RequestModel(BaseModel):
    """The base of all request models: strict types, no unknown fields.

    The validation of a list ends with its first mistake, so that a million of them cost nothing.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema = handler(source)
        _end_with_first_mistake(schema)
        return schema


def tag_of(*known: str, message: str = "") -> Any:
    """Choose the member of a union by its one telling key; ``message`` says what it should be."""

    def tag(value: Any) -> str | None:
        if isinstance(value, str):
            return "words"
        if isinstance(value, list):
            return "list"
        names = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
        return next((name for name in known if name in names), None)

    listed = ", ".join(known)
    return Discriminator(
        tag,
        custom_error_type="part",
        custom_error_message=message or f"should be an object with one of the keys: {listed}",
    )


Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT)]
Words = Annotated[str, Field(min_length=1, max_length=MAX_QUERY_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_QUERY_TEXT)]
Label = Annotated[str, Field(min_length=1, max_length=1_000)]
Names = Annotated[list[Name], Field(max_length=MAX_PARTS)]
CollectionName = Annotated[str, Field(max_length=128)] | None
ItemPath = Annotated[str, Field(max_length=MAX_PATH_BYTES)]
Caption = Annotated[str, Field(max_length=2 * MAX_TEXT_BYTES)]
_PUT_OPTIONS = options_of(PutOptions)
_DESCRIBE_OPTIONS = describe_options.OPTIONS


class Base64Image(RequestModel):
    """An encoded image in base64."""

    base64: Annotated[str, Field(min_length=4)]


class FileImage(RequestModel):
    """A file of the form, by its number from 0."""

    file: Annotated[int, Field(ge=0, le=1_000)]


class UrlImage(RequestModel):
    """An image at a URL; only if the server was started with ``--allow-urls``."""

    url: Annotated[str, Field(min_length=1, max_length=MAX_URL)]


ImageSource = Annotated[
    Annotated[Base64Image, Tag("base64")]
    | Annotated[FileImage, Tag("file")]
    | Annotated[UrlImage, Tag("url")],
    tag_of("base64", "file", "url"),
]


class TextPart(RequestModel):
    """Text to search for."""

    text: Words
    weight: Weight = 1.0


class ImagePart(RequestModel):
    """An image to search for."""

    image: ImageSource
    weight: Weight = 1.0


class IdPart(RequestModel):
    """A stored item to search for similar ones: its id, or the path of a picture."""

    id: Name
    weight: Weight = 1.0


class VectorPart(RequestModel):
    """An embedding of the collection's model."""

    vector: Annotated[list[float], Field(min_length=1, max_length=MAX_DIM)]
    weight: Weight = 1.0


Plain = (
    Annotated[TextPart, Tag("text")]
    | Annotated[ImagePart, Tag("image")]
    | Annotated[IdPart, Tag("id")]
    | Annotated[VectorPart, Tag("vector")]
)


class NotPart(RequestModel):
    """What hits should not resemble."""

    not_: Annotated[
        Annotated[Words, Tag("words")] | Plain, tag_of("text", "image", "id", "vector")
    ] = Field(alias="not")
    weight: Weight = 0.5


PartOrWords = Annotated[
    Annotated[Words, Tag("words")] | Plain | Annotated[NotPart, Tag("not")],
    tag_of("text", "image", "id", "vector", "not"),
]
Query = Annotated[
    Annotated[Words, Tag("words")]
    | Annotated[list[PartOrWords], Field(max_length=MAX_PARTS), Tag("list")]
    | Plain
    | Annotated[NotPart, Tag("not")],
    tag_of("text", "image", "id", "vector", "not"),
]


class Searching(RequestModel):
    """What every search takes; ``BoundedModels`` adds the options of ``SearchOptions``.

    ``with_cursor`` asks for the cursor of the next page. Later pages have theirs anyway.
    """

    collection: CollectionName = None
    with_cursor: bool = False

    def options(self) -> SearchOptions:
        """The search options, defaults included."""
        return cast("SearchOptions", self.model_dump(include=set(OPTIONS)))


class Search(Searching):
    """A search: a query, or the cursor of the previous page."""

    query: Query | None = None


class SearchMany(Searching):
    """Several searches with the same options."""

    queries: Annotated[list[Query], Field(min_length=1)]


class SearchToSave(RequestModel):
    """A search without pictures and embeddings; with a filter the query may be left out.

    ``BoundedModels`` adds the options of ``SearchOptions`` that are saved.
    """

    query: Query | None = None

    def options(self) -> SearchOptions:
        """The search options that were sent."""
        sent = set(OPTIONS) & self.model_fields_set
        return cast("SearchOptions", self.model_dump(include=sent))


class SaveSearch(RequestModel):
    """A search, and the name to save it under."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_SEARCH_NAME)]
    search: SearchToSave
    collection: CollectionName = None


class Embed(RequestModel):
    """Texts or images to embed."""

    texts: list[Annotated[str, Field(max_length=MAX_QUERY_TEXT)]] = []
    images: list[ImageSource] = []
    collection: CollectionName = None


class Classify(RequestModel):
    """Labels, and images or the ids of stored pictures to classify."""

    labels: list[Label]
    images: list[ImageSource] = []
    ids: list[Name] = []
    templates: Annotated[
        list[Annotated[str, Field(max_length=1_000)]], Field(max_length=MAX_TEMPLATES)
    ] = []
    top: Annotated[int, Field(ge=1, le=1_000)] = 5
    collection: CollectionName = None


class MatchPairIn(RequestModel):
    """A text, and an image or the id of a stored picture."""

    text: Words
    image: ImageSource | None = None
    id: Name | None = None


class MatchIn(RequestModel):
    """Texts, and images or the ids of stored pictures to score with each; or pairs."""

    texts: list[Words] = []
    images: list[ImageSource] = []
    ids: list[Name] = []
    pairs: list[MatchPairIn] = []
    references: list[Words] = []
    collection: CollectionName = None


class Describe(RequestModel):
    """Images, or the ids of stored pictures, to propose texts for.

    ``BoundedModels`` adds the options of ``DescribeOptions``.
    """

    images: list[ImageSource] = []
    ids: list[Name] = []
    collection: CollectionName = None

    def options(self) -> DescribeOptions:
        """The options of describing, defaults included."""
        return cast("DescribeOptions", self.model_dump(include=set(_DESCRIBE_OPTIONS)))


class SignIn(RequestModel):
    """A key, to exchange for a cookie."""

    key: Annotated[str, Field(min_length=1, max_length=1_024)]


class ItemIn(RequestModel):
    """An item; see ``twinlens.ingest.upload.Upload``. ``file`` is the number of its file."""

    uri: Annotated[str, Field(min_length=1, max_length=MAX_PATH_BYTES)]
    root: ItemPath = ""
    relative: ItemPath = ""
    kind: UploadKind = "image"
    captions: Annotated[list[Caption], Field(max_length=MAX_CAPTIONS)] = []
    metadata: dict[str, JsonValue] = {}
    size: Annotated[int, Field(ge=-1, le=_INT64)] = -1
    # One file with an impossible time must not refuse the whole request: Sample bounds it.
    mtime_ns: int = -1
    fixed: bool = False
    left_out: Annotated[int, Field(ge=0, le=MAX_CAPTIONS)] = 0
    file: Annotated[int, Field(ge=0, le=100_000)] | None = None
    failed: Annotated[str, Field(max_length=10_000)] = ""


class ItemsIn(RequestModel):
    """Items to store; ``BoundedModels`` adds the options of ``PutOptions``."""

    items: list[ItemIn] = []
    collection: CollectionName = None
    model: Annotated[str, Field(max_length=200)] = ""
    dry_run: bool = False

    def options(self) -> PutOptions:
        """The options of storing, defaults included."""
        return cast("PutOptions", self.model_dump(include=set(_PUT_OPTIONS)))


class LabelChange(RequestModel):
    """Pictures, by their ids or paths, that get an album or a tag, or lose it."""

    add: Annotated[list[Name], Field(max_length=MAX_DELETED)] = []
    remove: Annotated[list[Name], Field(max_length=MAX_DELETED)] = []
    collection: CollectionName = None


class AlbumIn(LabelChange):
    """Pictures, by their ids or paths, to put into an album, or to take out of it."""

    album: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


class TagIn(LabelChange):
    """Pictures, by their ids or paths, to tag, or to remove a tag from."""

    tag: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


class ZipIn(RequestModel):
    """The ids of pictures to download."""

    ids: Annotated[list[Name], Field(min_length=1, max_length=MAX_PICTURES)]
    collection: CollectionName = None


class DeleteIn(RequestModel):
    """Paths, with everything below them, or ids to delete."""

    paths: Annotated[list[ItemPath], Field(max_length=MAX_DELETED)] = []
    ids: Annotated[list[Name], Field(max_length=MAX_DELETED)] = []
    collection: CollectionName = None


class MissingIn(RequestModel):
    """Paths that no longer exist on the client's disk."""

    paths: Annotated[list[ItemPath], Field(max_length=MAX_DELETED)]
    prune: bool = False
    collection: CollectionName = None


class PolicyIn(RequestModel):
    """A moderation policy; ``twinlens.search.analysis.policy.file`` checks it."""

    policy: dict[str, JsonValue]
    collection: CollectionName = None
    model: Annotated[str, Field(max_length=200)] = ""


class DecisionIn(RequestModel):
    """A decision about flagged pictures."""

    ids: Annotated[list[Name], Field(min_length=1, max_length=MAX_DELETED)]
    decision: Decision
    collection: CollectionName = None


class PointsIn(RequestModel):
    """Pictures whose points on the map are wanted."""

    ids: Annotated[
        list[Annotated[str, Field(pattern=rf"^[0-9a-f]{{{ID_LENGTH}}}$")]],
        Field(max_length=MAX_POINTS),
    ]
    collection: CollectionName = None
    method: Method = "pca"


class BoundedModels:
    """The request models with the limits of a server's settings."""

    def __init__(self, settings: Settings) -> None:
        most = settings.max_limit
        fields: dict[str, Any] = {
            name: (option.pydantic_type(**_LENGTHS.get(name, {})), option.default)
            for name, option in OPTIONS.items()
            if name != "image"  # sent as a part of the query, or as a file of the form
        }
        limit, offset = OPTIONS["limit"], OPTIONS["offset"]
        farthest = min(10 * most, MAX_LIMIT - most)
        fields["limit"] = limit.pydantic_type(le=most), min(limit.default, most)
        fields["offset"] = offset.pydantic_type(le=farthest), offset.default
        fields |= {name: (Names, []) for name in ("like", "unlike")}
        shared = {name: fields[name] for name in SHARED}
        queries = Annotated[list[Query], Field(min_length=1, max_length=settings.max_queries)]
        text = Annotated[str, Field(min_length=1, max_length=MAX_QUERY_TEXT)]
        pictures = Annotated[list[ImageSource], Field(max_length=settings.max_embed)]
        self.search: type[Search] = create_model("SearchBody", __base__=Search, **fields)
        self.many: type[SearchMany] = create_model(
            "SearchManyBody", __base__=SearchMany, **shared, queries=queries
        )
        saved = {name: one for name, one in fields.items() if name not in NOT_SAVED}
        to_save = create_model("SearchToSaveBody", __base__=SearchToSave, **saved)
        self.save: type[SaveSearch] = create_model(
            "SaveSearchBody", __base__=SaveSearch, search=(to_save, ...)
        )
        self.embed: type[Embed] = create_model(
            "EmbedBody",
            __base__=Embed,
            texts=(Annotated[list[text], Field(max_length=settings.max_embed)], []),
            images=(pictures, []),
        )
        labels = list[Label]
        self.classify: type[Classify] = create_model(
            "ClassifyBody",
            __base__=Classify,
            labels=Annotated[labels, Field(min_length=2, max_length=settings.max_labels)],
            images=(pictures, []),
            ids=(Annotated[list[Name], Field(max_length=settings.max_embed)], []),
        )
        most_pictures = Field(max_length=settings.max_embed)
        self.match: type[MatchIn] = create_model(
            "MatchBody",
            __base__=MatchIn,
            texts=(Annotated[list[Words], Field(max_length=settings.max_labels)], []),
            images=(pictures, []),
            ids=(Annotated[list[Name], most_pictures], []),
            pairs=(Annotated[list[MatchPairIn], most_pictures], []),
            references=(Annotated[list[Words], most_pictures], []),
        )
        fields = {n: (one.pydantic_type(), one.default) for n, one in _DESCRIBE_OPTIONS.items()}
        fields["labels"] = Annotated[list[Label], Field(max_length=settings.max_labels)], []
        fields["images"] = pictures, []
        fields["ids"] = Annotated[list[Name], most_pictures], []
        self.describe: type[Describe] = create_model("DescribeBody", __base__=Describe, **fields)
        fields = {name: (one.pydantic_type(), one.default) for name, one in _PUT_OPTIONS.items()}
        fields["items"] = Annotated[list[ItemIn], Field(max_length=settings.max_items)], []
        self.items: type[ItemsIn] = create_model("ItemsBody", __base__=ItemsIn, **fields)
