"""``Audit``: the result of checking captions against their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twinlens.search.analysis.caption_checks import CaptionProblem
from twinlens.search.analysis.match import Verdict
from twinlens.search.frozen import FrozenDict


@dataclass(frozen=True, slots=True)
class Place:
    """A picture and a caption, by their stored paths and words; "" where there is none."""

    path: str = ""
    relative_path: str = ""
    caption: str = ""

    def to_dict(self) -> dict[str, str]:
        """Convert to plain types, for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class AuditedPair:
    """A picture and one of its captions, with what is wrong with them.

    Attributes:
        path, relative_path: of the picture, absolute and below the ingested folder.
        caption: its words.
        image_id, text_id: their ids.
        probability: that they belong together, by ``match`` and ``agreement``, in a mix of as many
            true pairs as random ones.
        verdict: "match", "unsure" or "mismatch": what the probability means.
        cosine: of their vectors.
        match: the probability by their own vectors alone.
        agreement: the probability by the picture's other captions alone; ``None`` without others.
        picture_rank: 1 more than the pictures that fit the caption better.
        caption_rank: 1 more than the captions of other pictures that fit the picture better.
        better: the picture that fits the caption best, and the caption of another picture that
            fits the picture best; "" where its own does.
        swapped_with: the pair that has this picture's caption and this caption's picture.
        duplicate: a near-duplicate of the picture, with a caption that fits both.
        problems: of the words alone: see ``caption_checks``.
    """

    path: str
    relative_path: str
    caption: str
    image_id: str
    text_id: str
    probability: float
    verdict: Verdict
    cosine: float
    match: float
    agreement: float | None
    picture_rank: int
    caption_rank: int
    better: Place = Place()
    swapped_with: Place | None = None
    duplicate: Place | None = None
    problems: tuple[CaptionProblem, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types, for JSON."""
        swapped, duplicate = self.swapped_with, self.duplicate
        shown = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return shown | {
            "better": self.better.to_dict(),
            "swapped_with": swapped.to_dict() if swapped is not None else None,
            "duplicate": duplicate.to_dict() if duplicate is not None else None,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        model: the collection's model.
        pairs: how many pairs were checked.
        images: stored pictures, with and without captions.
        captions: captions of stored pictures, also of those that the filter leaves out.
        unpaired: texts that belong to no stored picture, which are not checked.
        verdicts: how many pairs have each verdict.
        problems: how many captions have each problem.
        reads_tokens: whether the model's tokenizer is known: "script" and "too-long" are not
            checked otherwise.
        below: how many pairs have a smaller probability than the given one.
        worst: the pairs that are listed, least likely first.
    """

    model: str
    pairs: int = 0
    images: int = 0
    captions: int = 0
    unpaired: int = 0
    verdicts: Mapping[Verdict, int] = field(default_factory=FrozenDict)
    problems: Mapping[CaptionProblem, int] = field(default_factory=FrozenDict)
    reads_tokens: bool = False
    below: int = 0
    worst: tuple[AuditedPair, ...] = ()
