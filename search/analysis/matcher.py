"""Match pictures with texts: every picture with every text, or a stream of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

import numpy as np

from twinlens.search.analysis.classify import probabilities
from twinlens.search.analysis.match import (
    PairCalibration,
    PairMatch,
    clip_score,
    cosines,
    ref_clip_score,
    verdict,
)
from twinlens.search.analysis.pictures import ReadPicture, read_pictures
from twinlens.search.errors import UsageError
from twinlens.search.models.base import Encoder, Rows
from twinlens.search.models.batches import encode_texts
from twinlens.search.query.embed import in_phrase
from twinlens.search.query.parts import MAX_QUERY_TEXT

#: Stored pictures that are scored together.
_STORED = 256
#: English texts of so few words are encoded as "a photo of …": ``benchmarks/short_texts.py``.
PHRASED_WORDS = 2


@dataclass(frozen=True, slots=True)
class MatchInput:
    """A picture and the texts to score it with.

    Attributes:
        image: the picture's name.
        texts: one or more.
        load: reads the encoded picture; raises ``ImageError`` or ``OSError``.
        row: in place of ``load``, the float32 unit row ``[dim]`` of a stored picture.
        alternatives: whether the texts compete, so that each gets a ``probability`` among them.
    """

    image: str
    texts: Sequence[str]
    load: Callable[[], bytes] | None = None
    row: Rows | None = field(default=None, compare=False)
    alternatives: bool = False


class Matcher:
    """Score pictures with texts; memory use is bounded by a batch of pictures and its texts.

    Args:
        encoder: the model.
        calibration: of the model, or of a collection of it.
        references: reference texts of every picture, for ``ref_clip_score``.

    Raises:
        UsageError: a reference is empty or too long.
    """

    def __init__(
        self,
        encoder: Encoder,
        calibration: PairCalibration,
        references: str | Iterable[str] = (),
    ) -> None:
        self._encoder = encoder
        self._calibration = calibration
        #: Rows of the last batch's texts: in a grid all batches have the same.
        self._texts: dict[str, Rows] = {}
        self._stacked: tuple[Sequence[str], Rows] = (), np.empty((0, 0), dtype=np.float32)
        told = check_texts(references)
        self._references = self._encode(told) if told else None

    def match(self, inputs: Iterable[MatchInput]) -> Iterator[PairMatch]:
        """Score each picture with its texts, in order.

        Pictures are decoded ahead, and encoded in batches. A picture that cannot be read gives a
        result with the error for each of its texts.
        """
        for stored, some in groupby(inputs, lambda one: one.row is not None):
            score = self._match_stored if stored else self._match_read
            yield from score(some)

    def _match_stored(self, inputs: Iterator[MatchInput]) -> Iterator[PairMatch]:
        while batch := list(islice(inputs, _STORED)):
            yield from self._score(batch, [one.row for one in batch])

    def _match_read(self, inputs: Iterator[MatchInput]) -> Iterator[PairMatch]:
        waiting: list[MatchInput] = []

        def images() -> Iterator[tuple[str, Callable[[], bytes]]]:
            for one in inputs:
                assert one.load is not None
                waiting.append(one)
                yield one.image, one.load

        for batch in read_pictures(self._encoder, images()):
            asked, waiting[:] = waiting[: len(batch)], waiting[len(batch) :]
            yield from self._score(asked, self._image_rows(batch), batch)

    def _image_rows(self, batch: Sequence[ReadPicture]) -> list[Rows | None]:
        """The float32 unit row of each picture; ``None`` for one that could not be read."""
        pixels = [one.pixels for one in batch if one.pixels is not None]
        rows = iter(self._encoder.images(np.stack(pixels)) if pixels else ())
        return [None if one.pixels is None else next(rows) for one in batch]

    def _encode(self, texts: Sequence[str]) -> Rows:
        """Float32 unit rows ``[n, dim]`` of ``n`` texts, at least one."""
        return encode_texts(self._encoder, [in_phrase(text, PHRASED_WORDS) for text in texts])

    def _score(
        self,
        inputs: Sequence[MatchInput],
        image_rows: Sequence[Rows | None],
        read: Sequence[ReadPicture] = (),
    ) -> Iterator[PairMatch]:
        texts = dict.fromkeys(text for one in inputs for text in one.texts)
        missing = [text for text in texts if text not in self._texts]
        rows = self._encode(missing) if missing else ()
        made = dict(zip(missing, rows, strict=True))
        self._texts = {text: made[text] if text in made else self._texts[text] for text in texts}
        for number, (one, row) in enumerate(zip(inputs, image_rows, strict=True)):
            if row is None:
                for text in one.texts:
                    yield PairMatch(one.image, text, error=read[number].error)
            else:
                yield from self._score_image(one, row)

    def _score_image(self, asked: MatchInput, row: Rows) -> Iterator[PairMatch]:
        if asked.texts is not self._stacked[0]:  # in a grid they are those of the picture before
            self._stacked = asked.texts, np.stack([self._texts[text] for text in asked.texts])
        text_rows = self._stacked[1]
        image_rows = np.broadcast_to(row, text_rows.shape)
        found = cosines(text_rows, image_rows)
        matches = self._calibration.match(text_rows, image_rows)
        scores = clip_score(text_rows, image_rows)
        references = None
        if self._references is not None:
            references = ref_clip_score(text_rows, image_rows, self._references)
        compete = asked.alternatives and len(found) > 1
        shares = probabilities(found[None], self._encoder)[0] if compete else None
        for number, text in enumerate(asked.texts):
            yield PairMatch(
                asked.image,
                text,
                cosine=float(found[number]),
                match=float(matches[number]),
                verdict=verdict(float(matches[number])),
                probability=None if shares is None else float(shares[number]),
                clip_score=float(scores[number]),
                ref_clip_score=None if references is None else float(references[number]),
            )


def check_texts(texts: str | Iterable[str]) -> list[str]:
    """The texts as a list, without spaces around them; a single text is a list of one.

    Raises:
        UsageError: one is no text, empty, or longer than ``MAX_QUERY_TEXT``.
    """
    found = []
    for text in [texts] if isinstance(texts, str) else texts:
        if not isinstance(text, str):
            raise UsageError(f"a text to match must be a string, not {type(text).__name__}")
        # A terminal that is not UTF-8 passes surrogates, which no tokeniser accepts.
        clean = text.encode("utf-8", "replace").decode().strip()
        if not clean:
            raise UsageError("a text to match is empty: describe what the picture should show")
        if len(clean) > MAX_QUERY_TEXT:
            raise UsageError(f"a text to match is longer than {MAX_QUERY_TEXT:,} characters")
        found.append(clean)
    return found
