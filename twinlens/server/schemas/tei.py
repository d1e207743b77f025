"""Models of what the routes that speak TEI's API take and return."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, RootModel, Tag

from twinlens.server.schemas.openai import TextOrUrl
from twinlens.server.schemas.requests import RequestModel, tag_of
from twinlens.server.schemas.responses import ResponseModel
from twinlens.server.tei_errors import TeiErrorType


def _lower(value: Any) -> Any:
    """TEI writes "Right" in its documents, and takes "right", too."""
    return value.lower() if isinstance(value, str) else value


class TeiEmbedIn(RequestModel):
    """Texts, or data URLs of pictures, to embed; see TEI's ``/embed``.

    Embeddings have unit length, whatever ``normalize`` says.
    """

    inputs: Annotated[
        Annotated[TextOrUrl, Tag("words")]
        | Annotated[list[TextOrUrl], Field(min_length=1), Tag("list")],
        tag_of(message="should be a text, or a list of texts"),
    ]
    normalize: bool | None = True
    truncate: bool | None = True
    truncation_direction: Annotated[Literal["right"], BeforeValidator(_lower)] | None = "right"
    prompt_name: None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


class TeiEmbeddingsOut(RootModel[list[list[float]]]):
    """A float32 unit vector for each input, in order."""


class TeiPoolingOut(ResponseModel):
    """How a model makes one vector of its tokens."""

    pooling: Literal["model"]


class TeiModelTypeOut(ResponseModel):
    """What the model does: it embeds."""

    embedding: TeiPoolingOut


class TeiInfoOut(ResponseModel):
    """The model of a collection, and the limits of the server."""

    model_id: str
    model_sha: None
    model_dtype: Literal["float32"]
    model_type: TeiModelTypeOut
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_client_batch_size: int
    auto_truncate: Literal[True]
    tokenization_workers: int
    version: str


class TeiErrorOut(ResponseModel):
    """An error, as in TEI's API."""

    error: str
    error_type: TeiErrorType
