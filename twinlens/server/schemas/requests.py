"""What the API takes, as pydantic models: nothing unknown, everything bounded."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model

from twinlens.search.milvus.capabilities import MAX_LIMIT
from twinlens.search.query.parts import MAX_PARTS, MAX_QUERY_TEXT, MAX_WEIGHT
from twinlens.search.query.request import OPTIONS, SHARED, SearchOptions
from twinlens.server.settings import Settings

#: Characters of an address.
MAX_URL = 2_048
#: Numbers in a vector.
MAX_DIM = 32_768
#: Characters of a cursor: it holds the query's embedding and what was shown.
MAX_CURSOR = 1 << 20
#: Characters of an option, where the server takes fewer than the library.
_LENGTHS = {"where": {"max_length": MAX_QUERY_TEXT}, "cursor": {"max_length": MAX_CURSOR}}
#: Labels' templates in one request.
MAX_TEMPLATES = 32


class RequestModel(BaseModel):
    """What clients send: of exactly these types, with nothing else in it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def _tag_of(*known: str) -> Any:
    """Chooses a union's member by the one key that says what it is."""

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
        custom_error_message=f"should be one with a key of: {listed}",
    )


Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT)]
Words = Annotated[str, Field(min_length=1, max_length=MAX_QUERY_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_QUERY_TEXT)]
Names = Annotated[list[Name], Field(max_length=MAX_PARTS)]
CollectionName = Annotated[str, Field(max_length=128)] | None


class Base64Image(RequestModel):
    """A picture's bytes, in base64."""

    base64: Annotated[str, Field(min_length=4)]


class FileImage(RequestModel):
    """One of the form's files, counted from 0."""

    file: Annotated[int, Field(ge=0, le=1_000)]


class UrlImage(RequestModel):
    """A picture at an address; only where the server was started with ``--allow-urls``."""

    url: Annotated[str, Field(min_length=1, max_length=MAX_URL)]


ImageSource = Annotated[
    Annotated[Base64Image, Tag("base64")]
    | Annotated[FileImage, Tag("file")]
    | Annotated[UrlImage, Tag("url")],
    _tag_of("base64", "file", "url"),
]


class TextPart(RequestModel):
    """Words to look for."""

    text: Words
    weight: Weight = 1.0


class ImagePart(RequestModel):
    """A picture to look for."""

    image: ImageSource
    weight: Weight = 1.0


class IdPart(RequestModel):
    """More like something stored: an id, or a stored picture's path."""

    id: Name
    weight: Weight = 1.0


class VectorPart(RequestModel):
    """An embedding made with the collection's model."""

    vector: Annotated[list[float], Field(min_length=1, max_length=MAX_DIM)]
    weight: Weight = 1.0


Plain = (
    Annotated[TextPart, Tag("text")]
    | Annotated[ImagePart, Tag("image")]
    | Annotated[IdPart, Tag("id")]
    | Annotated[VectorPart, Tag("vector")]
)


class NotPart(RequestModel):
    """What hits should be unlike."""

    not_: Annotated[
        Annotated[Words, Tag("words")] | Plain, _tag_of("text", "image", "id", "vector")
    ] = Field(alias="not")
    weight: Weight = 0.5


PartOrWords = Annotated[
    Annotated[Words, Tag("words")] | Plain | Annotated[NotPart, Tag("not")],
    _tag_of("text", "image", "id", "vector", "not"),
]
Query = Annotated[
    Annotated[Words, Tag("words")]
    | Annotated[list[PartOrWords], Field(max_length=MAX_PARTS), Tag("list")]
    | Plain
    | Annotated[NotPart, Tag("not")],
    _tag_of("text", "image", "id", "vector", "not"),
]


class Searching(RequestModel):
    """What every search takes; ``BoundedModels`` adds the options of ``SearchOptions``."""

    collection: CollectionName = None

    def options(self) -> SearchOptions:
        """The search options, defaults included."""
        return cast("SearchOptions", self.model_dump(include=set(OPTIONS)))


class Search(Searching):
    """A search: a query, or the cursor of the previous page."""

    query: Query | None = None


class SearchMany(Searching):
    """Several searches with the same options."""

    queries: Annotated[list[Query], Field(min_length=1)]


class Embed(RequestModel):
    """Texts or pictures to embed."""

    texts: list[Annotated[str, Field(max_length=MAX_QUERY_TEXT)]] = []
    images: list[ImageSource] = []
    collection: CollectionName = None


class Classify(RequestModel):
    """Labels to choose from, and pictures or ids of stored ones."""

    labels: list[Annotated[str, Field(min_length=1, max_length=1_000)]]
    images: list[ImageSource] = []
    ids: list[Name] = []
    templates: Annotated[
        list[Annotated[str, Field(max_length=1_000)]], Field(max_length=MAX_TEMPLATES)
    ] = []
    top: Annotated[int, Field(ge=1, le=1_000)] = 5
    collection: CollectionName = None


class SignIn(RequestModel):
    """A key, to be kept as a cookie."""

    key: Annotated[str, Field(min_length=1, max_length=1_024)]


class BoundedModels:
    """The models with the bounds that a server's settings say."""

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
        self.embed: type[Embed] = create_model(
            "EmbedBody",
            __base__=Embed,
            texts=(Annotated[list[text], Field(max_length=settings.max_embed)], []),
            images=(pictures, []),
        )
        labels = list[Annotated[str, Field(min_length=1, max_length=1_000)]]
        self.classify: type[Classify] = create_model(
            "ClassifyBody",
            __base__=Classify,
            labels=Annotated[labels, Field(min_length=2, max_length=settings.max_labels)],
            images=(pictures, []),
            ids=(Annotated[list[Name], Field(max_length=settings.max_embed)], []),
        )
