"""Zero-shot classification: which of some labels a picture is most likely of, without training.

As in CLIP (https://arxiv.org/abs/2103.00020, section 3.1.4): each label is put into several
sentences, and the normalised mean of their embeddings stands for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.search.errors import ImageError, UsageError, reason_of
from twinlens.search.images.decode import decode
from twinlens.search.milvus.collection import Collection
from twinlens.search.models.base import Encoder, Pixels, Rows
from twinlens.search.query.calibration import logistic

Reals = npt.NDArray[np.float64]

#: What a label is put into, one sentence for each.
TEMPLATES = (
    "a photo of a {}",
    "a photo of the {}",
    "a close-up photo of a {}",
    "a blurry photo of a {}",
    "a photo of a small {}",
    "a photo of a large {}",
    "a picture with a {} in it",
)
#: What CLIP's training ends at, for an encoder that does not say its own.
DEFAULT_SCALE = 100.0
TOP = 5
_TEXTS = 64


@dataclass(frozen=True, slots=True)
class Guess:
    """A label and how likely it is, from 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Classified:
    """One picture with its most likely labels, best first; or the reason why it has none."""

    path: str
    guesses: tuple[Guess, ...] = ()
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain types, for JSON."""
        plain: dict[str, Any] = {"path": self.path}
        if self.error:
            return plain | {"error": self.error}
        return plain | {"labels": [asdict(guess) for guess in self.guesses]}


class Classifier:
    """Labels as a model sees them.

    Probabilities are a softmax over the labels at the temperature that the model was trained with.
    A model that was trained with a sigmoid (SigLIP) judges each label by itself: there they do not
    add up to 1, and a picture of none of the labels has low ones throughout.

    Args:
        encoder: the model.
        labels: what there is to choose from; those said twice count once.
        templates: sentences with ``{}`` where the label goes.

    Raises:
        UsageError: fewer than two labels, or a template without ``{}``.
    """

    def __init__(
        self, encoder: Encoder, labels: Sequence[str], templates: Sequence[str] = TEMPLATES
    ) -> None:
        self.labels = distinct(labels)
        if isinstance(templates, str):
            raise UsageError(f"templates are a list, such as [{templates!r}]")
        for template in templates:
            if "{}" not in template:
                raise UsageError(f"a template has {{}} where the label goes; {template!r} has not")
        if not templates:
            raise UsageError("there must be a template, if only {}")
        self._rows = _label_rows(encoder, self.labels, templates)
        self._sigmoid: tuple[float, float] | None = getattr(encoder, "sigmoid", None)
        self._scale = float(getattr(encoder, "logit_scale", None) or DEFAULT_SCALE)

    def probabilities(self, vectors: Rows) -> Reals:
        """Float32 unit rows ``[n, dim]`` → float64 ``[n, labels]``."""
        cosines = (vectors @ self._rows.T).astype(np.float64)
        if self._sigmoid is not None:
            scale, bias = self._sigmoid
            return logistic(scale * cosines + bias)
        logits = self._scale * cosines
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Reals = likely / likely.sum(axis=1, keepdims=True)
        return shares

    def guess(self, vectors: Rows, top: int = TOP) -> list[tuple[Guess, ...]]:
        """The ``top`` most likely labels of each row, best first."""
        if top < 1:
            raise UsageError(f"ask for at least one label of each picture, not {top}")
        found = self.probabilities(vectors)
        order = np.argsort(-found, axis=1, kind="stable")[:, :top]
        return [
            tuple(Guess(self.labels[number], float(row[number])) for number in numbers)
            for row, numbers in zip(found, order, strict=True)
        ]


def distinct(labels: Sequence[str]) -> list[str]:
    """Labels without those that say nothing or come again.

    Raises:
        UsageError: there are fewer than two.
    """
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise UsageError("labels are a list of texts, such as ['cat', 'dog']")
    found = list(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if len(found) < 2:
        raise UsageError("there must be two labels to choose from at least")
    return found


def classify_stored(
    classifier: Classifier, collection: Collection, *, top: int = TOP, expression: str = ""
) -> Iterator[Classified]:
    """Every stored picture that satisfies a Milvus expression; memory is bounded."""
    for rows in collection.scan("images", ["path", "vector"], expression, batch=1_000):
        vectors = np.array([row["vector"] for row in rows], dtype=np.float32)
        for row, guesses in zip(rows, classifier.guess(vectors, top), strict=True):
            yield Classified(row["path"], guesses)


def classify_pictures(
    classifier: Classifier,
    encoder: Encoder,
    pictures: Iterable[tuple[str, Callable[[], bytes]]],
    *,
    top: int = TOP,
) -> Iterator[Classified]:
    """Pictures by name and what reads them, in order; one that cannot be read is a result, too."""

    def pixels(picture: tuple[str, Callable[[], bytes]]) -> Pixels | str:
        try:
            decoded = decode(picture[1](), target=encoder.fingerprint.image_size)
            return encoder.prepare(decoded.image)
        except (ImageError, OSError) as error:
            return reason_of(error)

    source = iter(pictures)
    with ThreadPoolExecutor() as pool:

        def ahead() -> tuple[list[str], Iterator[Pixels | str]]:
            batch = list(islice(source, encoder.image_batch))
            return [name for name, _ in batch], pool.map(pixels, batch)

        names, reading = ahead()
        while names:
            read = list(reading)
            # The next are decoded while these are encoded.
            following = ahead()
            good = [one for one in read if not isinstance(one, str)]
            guesses = iter(classifier.guess(encoder.images(np.stack(good)), top) if good else [])
            for name, one in zip(names, read, strict=True):
                if isinstance(one, str):
                    yield Classified(name, error=one)
                else:
                    yield Classified(name, next(guesses))
            names, reading = following


def _label_rows(encoder: Encoder, labels: Sequence[str], templates: Sequence[str]) -> Rows:
    """Float32 unit rows ``[labels, dim]``."""
    rows = np.zeros((len(labels), encoder.fingerprint.dim), dtype=np.float64)
    for template in templates:
        # Not str.format: a label or a template may have braces of its own.
        texts = [template.replace("{}", label) for label in labels]
        for start in range(0, len(texts), _TEXTS):
            rows[start : start + _TEXTS] += encoder.texts(texts[start : start + _TEXTS])
    unit: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit
