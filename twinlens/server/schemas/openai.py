"""Models of what the routes that speak OpenAI's API take and return."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from twinlens.server.schemas.requests import RequestModel, Words, tag_of
from twinlens.server.schemas.responses import ResponseModel

EncodingFormat = Literal["float", "base64"]
Modality = Literal["text", "image"]


class PictureUrl(RequestModel):
    """The address of a picture: a data URL, or with ``--allow-urls`` one of the web."""

    url: Annotated[str, Field(min_length=1)]


class TextInput(RequestModel):
    """A text to embed."""

    text: Words
    type: Literal["text"] = "text"


class PictureInput(RequestModel):
    """A picture to embed: a data URL, or with ``--allow-urls`` an address of the web."""

    image: Annotated[str, Field(min_length=1)]


class PictureUrlInput(RequestModel):
    """A picture to embed, as chats name it."""

    image_url: PictureUrl
    type: Literal["image_url"] = "image_url"


_TAGGED = tag_of(
    "text",
    "image",
    "image_url",
    message="should be a text, the data URL of a picture, or an object with one of the keys text, "
    "image, image_url; token ids are not taken",
)
Content = (
    Annotated[TextInput, Tag("text")]
    | Annotated[PictureInput, Tag("image")]
    | Annotated[PictureUrlInput, Tag("image_url")]
)
#: A text, or the data URL of a picture.
TextOrUrl = Annotated[str, Field(min_length=1)]
Input = Annotated[Annotated[TextOrUrl, Tag("words")] | Content, _TAGGED]


class Message(RequestModel):
    """A message of a chat, whose one content is embedded."""

    content: Annotated[
        Annotated[TextOrUrl, Tag("words")]
        | Annotated[
            list[Annotated[Content, _TAGGED]], Field(min_length=1, max_length=1), Tag("list")
        ],
        tag_of("text"),
    ]
    role: Literal["user"] = "user"


class EmbeddingsIn(RequestModel):
    """Texts or pictures to embed; see OpenAI's "Create embeddings".

    ``inputs`` gives ``input`` and the contents of ``messages`` as one list.
    """

    input: Annotated[
        Annotated[TextOrUrl, Tag("words")] | Annotated[list[Input], Tag("list")] | Content,
        _TAGGED,
    ] = Field(default_factory=list)
    messages: list[Message] = Field(default_factory=list, max_length=1)
    model: Annotated[str, Field(max_length=200)] = ""
    encoding_format: EncodingFormat | None = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    modality: Modality | None = None
    user: Annotated[str, Field(max_length=1_000)] | None = None

    def inputs(self) -> list[Input]:
        """Everything to embed, in order."""
        listed = list(self.input) if isinstance(self.input, list) else [self.input]
        for message in self.messages:
            listed += message.content if isinstance(message.content, list) else [message.content]
        return listed


class EmbeddingOut(ResponseModel):
    """A float32 unit vector: numbers, or base64 of their little-endian bytes."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class UsageOut(ResponseModel):
    """The tokens of the texts; pictures count as none."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsOut(ResponseModel):
    """The embeddings, in the order of the input."""

    object: Literal["list"]
    data: list[EmbeddingOut]
    model: str
    usage: UsageOut


class ServedModelOut(ResponseModel):
    """A model, with the collections that are made with it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    dimensions: int
    collections: list[str]


class ServedModelsOut(ResponseModel):
    """The models of all collections."""

    object: Literal["list"]
    data: list[ServedModelOut]


class ErrorDetail(ResponseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorOut(ResponseModel):
    """An error, as in OpenAI's API."""

    error: ErrorDetail
