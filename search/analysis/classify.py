"""Classify images by labels given in words, without training (zero-shot classification).

As in CLIP (https://arxiv.org/abs/2103.00020, section 3.1.4), a label is inserted into several
sentences and represented by the normalised mean of their embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twinlens.search.analysis.pictures import NamedImage, read_pictures
from twinlens.search.errors import OptionError, UsageError
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.models.batches import encode_texts
from twinlens.search.query.calibration import Reals, logistic

#: Sentences that a label is inserted into.
TEMPLATES = (
    "a photo of a {}",
    "a photo of the {}",
    "a close-up photo of a {}",
    "a blurry photo of a {}",
    "a photo of a small {}",
    "a photo of a large {}",
    "a picture with a {} in it",
)
#: The logit scale at the end of CLIP's training, for an encoder without one of its own.
DEFAULT_SCALE = 100.0
TOP = 5


@dataclass(frozen=True, slots=True)
class Guess:
    """A label with its probability, from 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Classified:
    """An image with its most likely labels, best first, or the error if it cannot be read."""

    path: str
    guesses: tuple[Guess, ...] = ()
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types, for JSON."""
        plain: dict[str, Any] = {"path": self.path}
        if self.error:
            return plain | {"error": self.error}
        return plain | {"labels": [asdict(guess) for guess in self.guesses]}


class Classifier:
    """Classify embeddings by labels.

    Probabilities are a softmax over the labels at the model's training temperature. A model trained
    with a sigmoid loss (SigLIP) judges each label by itself: its probabilities do not add up to 1,
    and all are low for an image that matches no label.

    Args:
        encoder: the model.
        labels: at least two; repeated ones count once.
        templates: sentences with ``{}`` in place of the label.

    Raises:
        UsageError: fewer than two labels, or a template without ``{}``.
    """

    def __init__(
        self, encoder: Encoder, labels: Sequence[str], templates: Sequence[str] = TEMPLATES
    ) -> None:
        self.labels = distinct(labels)
        if isinstance(templates, str):
            raise UsageError(f"templates must be a list, such as [{templates!r}]")
        for template in templates:
            if "{}" not in template:
                raise UsageError(f"the template {template!r} has no {{}} in place of the label")
        if not templates:
            raise UsageError("give at least one template, such as {}")
        self._rows = _label_rows(encoder, self.labels, templates)
        self._encoder = encoder

    def probabilities(self, vectors: Rows) -> Reals:
        """Probabilities float64 ``[n, labels]`` of float32 unit rows ``[n, dim]``."""
        return probabilities((vectors @ self._rows.T).astype(np.float64), self._encoder)

    def guess(self, vectors: Rows, top: int = TOP) -> list[tuple[Guess, ...]]:
        """The ``top`` most likely labels of each row, best first."""
        if top < 1:
            raise OptionError(f"must be at least 1, not {top}", "top")
        found = self.probabilities(vectors)
        order = np.argsort(-found, axis=1, kind="stable")[:, :top]
        return [
            tuple(Guess(self.labels[number], float(row[number])) for number in numbers)
            for row, numbers in zip(found, order, strict=True)
        ]


def probabilities(cosines: Reals, encoder: Encoder) -> Reals:
    """Turn the cosines of images and texts into probabilities of the texts, see ``Classifier``.

    Args:
        cosines: float64 ``[n, texts]``.
        encoder: their model; its ``logit_scale``, or else ``sigmoid``, is used.
    """
    sigmoid: tuple[float, float] | None = getattr(encoder, "sigmoid", None)
    if sigmoid is not None:
        scale, bias = sigmoid
        return logistic(scale * cosines + bias)
    logits = float(getattr(encoder, "logit_scale", None) or DEFAULT_SCALE) * cosines
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Reals = likely / likely.sum(axis=1, keepdims=True)
    return shares


def distinct(labels: Sequence[str]) -> list[str]:
    """Remove empty and repeated labels.

    Raises:
        UsageError: there are fewer than two.
    """
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise UsageError("labels must be a list of texts, such as ['cat', 'dog']")
    found = list(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if len(found) < 2:
        raise UsageError("give at least two labels to choose from")
    return found


def classify_stored(
    classifier: Classifier, collection: Collection, *, top: int = TOP, expression: str = ""
) -> Iterator[Classified]:
    """Classify the stored images that match a Milvus expression; memory use is bounded."""
    for rows in collection.scan("images", ["path", "vector"], expression, batch=1_000):
        vectors = np.array([row["vector"] for row in rows], dtype=np.float32)
        for row, guesses in zip(rows, classifier.guess(vectors, top), strict=True):
            yield Classified(row["path"], guesses)


def classify_pictures(
    classifier: Classifier,
    encoder: Encoder,
    images: Iterable[NamedImage],
    *,
    top: int = TOP,
) -> Iterator[Classified]:
    """Classify images, given as names and functions that read their bytes; results are in order.

    An image that cannot be read gives a result with its error.
    """

    for batch in read_pictures(encoder, images):
        pixels = [one.pixels for one in batch if one.pixels is not None]
        guesses = iter(classifier.guess(encoder.images(np.stack(pixels)), top) if pixels else ())
        for one in batch:
            found = () if one.error else next(guesses)
            yield Classified(one.name, found, one.error)


def _label_rows(encoder: Encoder, labels: Sequence[str], templates: Sequence[str]) -> Rows:
    """Float32 unit rows ``[labels, dim]``."""
    rows = np.zeros((len(labels), encoder.fingerprint.dim), dtype=np.float64)
    for template in templates:
        # Not str.format: labels and templates may contain other braces.
        rows += encode_texts(encoder, [template.replace("{}", label) for label in labels])
    unit: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit
