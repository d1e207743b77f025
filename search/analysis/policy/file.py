"""Read a policy file: concepts in words and example pictures, and what to do with what shows them.

version = 1

[concepts.weapons]
texts = ["a photo of a gun", "a photo of a rifle"]
examples = ["examples/knife.jpg"]
false_alarms = 0.01
action = "hold"
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast, get_args

from twinlens.search.errors import ImageError, UsageError, reason_of
from twinlens.search.images.originals import read_file
from twinlens.search.options import is_number
from twinlens.search.paths import expand_home
from twinlens.search.records import clean_text, image_id

#: What happens to a picture that shows a concept: it is marked, or also kept out of searches.
Action = Literal["flag", "hold"]
ACTIONS: tuple[Action, ...] = get_args(Action)

#: Bounds of a policy.
MAX_FILE_BYTES = 1 << 20
MAX_CONCEPTS = 64
MAX_TEXTS = 64
MAX_EXAMPLES = 64
#: Examples of all concepts together: each takes the time of encoding a picture.
MAX_ALL_EXAMPLES = 512
MAX_TEXT = 1_000
MAX_FILTER = 10_000
#: Bytes of all example pictures together.
MAX_EXAMPLE_BYTES = 64 << 20
FALSE_ALARMS = 0.01
MAX_FALSE_ALARMS = 0.5

#: Names of fields are made of concepts' names; one that ends like this would be another's score.
SCORE = "_score"
_CONCEPT = re.compile(r"[A-Za-z]([A-Za-z0-9_]{0,38}[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._ -]{0,62}[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,30}[A-Za-z0-9])?")
_POLICY_KEYS = ("name", "version", "ordinary", "concepts")
_CONCEPT_KEYS = ("texts", "examples", "false_alarms", "action")


@dataclass(frozen=True, slots=True)
class Example:
    """A picture that shows a concept.

    Attributes:
        name: how the policy names it.
        data: its encoded bytes.
    """

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Concept:
    """What a picture may show, in words and pictures.

    Attributes:
        name: the end of its field's name, ``flag_NAME``.
        texts: descriptions.
        examples: pictures that show it.
        false_alarms: the share of ordinary pictures that may be flagged by mistake, above 0.
        action: what happens to a picture that shows it.
    """

    name: str
    texts: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    false_alarms: float = FALSE_ALARMS
    action: Action = "flag"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy.

    Attributes:
        name, version: of the policy.
        concepts: what to look for.
        ordinary: a filter for the stored pictures that thresholds are chosen from; "" for all.
    """

    name: str
    version: str
    concepts: tuple[Concept, ...]
    ordinary: str = ""

    @property
    def label(self) -> str:
        """The value of the field ``policy``: ``NAME@VERSION``."""
        return f"{self.name}@{self.version}"

    @property
    def digest(self) -> str:
        """16 hex digits of a hash of all that decides about a picture."""
        plain = self.to_json([])
        for concept, described in zip(self.concepts, plain["concepts"].values(), strict=True):
            described["examples"] = [image_id(example.data) for example in concept.examples]
        encoded = json.dumps(plain, sort_keys=True).encode()
        return hashlib.blake2b(encoded, digest_size=8).hexdigest()

    def to_json(self, files: list[bytes]) -> dict[str, Any]:
        """The policy as plain types; examples become positions in ``files``, which they join."""
        concepts: dict[str, Any] = {}
        for concept in self.concepts:
            first = len(files)
            files += [example.data for example in concept.examples]
            concepts[concept.name] = {
                "texts": list(concept.texts),
                "examples": list(range(first, len(files))),
                "false_alarms": concept.false_alarms,
                "action": concept.action,
            }
        plain = {"name": self.name, "version": self.version, "concepts": concepts}
        return plain | ({"ordinary": self.ordinary} if self.ordinary else {})


def read_policy(path: str | Path) -> Policy:
    """Read a policy file and its example pictures, which are named relative to it.

    Raises:
        UsageError: it cannot be read or is not valid; the message names the line or the key.
    """
    file = expand_home(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MB: not a policy")
        content = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}, line {line}: not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{path} is not valid TOML: it is nested too deeply") from error
    content.setdefault("name", file.stem)
    left = MAX_EXAMPLE_BYTES

    def load(example: object, where: str) -> Example:
        nonlocal left
        if not isinstance(example, str) or not example:
            raise UsageError(f"{where} must be a list of paths of pictures")
        try:
            loaded = read_file(str((file.parent / expand_home(example)).absolute()))
        except (ImageError, OSError, ValueError) as error:
            reason = str(error) if isinstance(error, ValueError) else reason_of(error)
            raise UsageError(f"{where}: {example[:200]} {reason}") from error
        left -= len(loaded)
        if left < 0:
            size = MAX_EXAMPLE_BYTES >> 20
            raise UsageError(f"{where}: the examples are larger than {size} MB in all: scale them")
        return Example(example, loaded)

    return _Reader(str(path), load).policy(content)


def policy_from_json(content: object, files: Sequence[bytes]) -> Policy:
    """The inverse of ``Policy.to_json``.

    Raises:
        UsageError: it is not valid; the message names the key.
    """

    def load(example: object, where: str) -> Example:
        if not isinstance(example, int) or not 0 <= example < len(files):
            raise UsageError(f"{where} must be a list of numbers of the files that are sent")
        return Example(str(example), files[example])

    return _Reader("the policy", load).policy(content)


class _Reader:
    """Check the content of a policy.

    Args:
        source: how messages call it.
        load: reads an example; gets the place to name in a message.
    """

    def __init__(self, source: str, load: Any) -> None:
        self._source = source
        self._load = load

    def policy(self, content: object) -> Policy:
        policy = self._table(content, "", _POLICY_KEYS)
        if "version" not in policy:
            raise self._error("version", "is missing: write version = 1")
        version = policy["version"]
        if isinstance(version, int) and not isinstance(version, bool):
            version = str(version)
        concepts = policy.get("concepts")
        if not isinstance(concepts, Mapping) or not concepts:
            raise self._error("concepts", "are missing: begin one with [concepts.weapons]")
        ordinary = policy.get("ordinary", "")
        if not isinstance(ordinary, str) or len(ordinary) > MAX_FILTER:
            raise self._error("ordinary", f"must be a filter of at most {MAX_FILTER:,} characters")
        if len(concepts) > MAX_CONCEPTS:
            raise self._error("concepts", f"has more than {MAX_CONCEPTS} concepts")
        listed = [one.get("examples") for one in concepts.values() if isinstance(one, Mapping)]
        if sum(len(one) for one in listed if isinstance(one, list)) > MAX_ALL_EXAMPLES:
            raise self._error("concepts", f"has more than {MAX_ALL_EXAMPLES} examples in all")
        return Policy(
            self._word("name", policy.get("name"), _NAME),
            self._word("version", version, _VERSION),
            tuple(self._concept(name, value) for name, value in concepts.items()),
            ordinary.strip(),
        )

    def _concept(self, name: str, content: object) -> Concept:
        key = f"concepts.{name[:60]}"
        if not _CONCEPT.fullmatch(name) or name.endswith(SCORE):
            raise self._error(
                key,
                "must be named with at most 40 letters, digits and underscores, begin with a "
                f"letter, and end neither with an underscore nor with {SCORE}",
            )
        concept = self._table(content, key, _CONCEPT_KEYS)
        texts = self._list(f"{key}.texts", concept.get("texts", []), MAX_TEXTS)
        cleaned = [clean_text(text) if isinstance(text, str) else "" for text in texts]
        if not all(0 < len(text) <= MAX_TEXT for text in cleaned):
            raise self._error(
                f"{key}.texts", f"must be a list of texts of 1 to {MAX_TEXT:,} characters"
            )
        examples = self._list(f"{key}.examples", concept.get("examples", []), MAX_EXAMPLES)
        if not texts and not examples:
            raise self._error(key, "needs texts or examples")
        share = concept.get("false_alarms", FALSE_ALARMS)
        if not is_number(share) or not 0 < share <= MAX_FALSE_ALARMS:
            raise self._error(
                f"{key}.false_alarms",
                f"must be a share above 0 and at most {MAX_FALSE_ALARMS}, such as 0.01, "
                f"not {str(share)[:60]!r}",
            )
        action = concept.get("action", "flag")
        if action not in ACTIONS:
            raise self._error(
                f"{key}.action", f"must be {' or '.join(ACTIONS)}, not {str(action)[:60]!r}"
            )
        where = f"{self._source}: {key}.examples"
        return Concept(
            name,
            tuple(dict.fromkeys(cleaned)),
            tuple(self._load(example, where) for example in examples),
            float(share),
            cast("Action", action),
        )

    def _table(self, content: object, key: str, known: Sequence[str]) -> Mapping[str, Any]:
        if not isinstance(content, Mapping):
            raise self._error(key or "a policy", "must be a table")
        for name in content:
            if name not in known:
                near = get_close_matches(str(name), known, 1)
                meant = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
                at = f"{key}.{name}" if key else str(name)
                raise self._error(at[:120], f"is not a key of a policy: {meant}")
        return content

    def _list(self, key: str, value: object, most: int) -> Sequence[object]:
        if not isinstance(value, list):
            raise self._error(key, "must be a list")
        if len(value) > most:
            raise self._error(key, f"must have at most {most} entries, not {len(value):,}")
        return value

    def _word(self, key: str, value: object, pattern: re.Pattern[str]) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            shown = str(value)[:60]
            raise self._error(key, f"must be letters, digits, dots and hyphens, not {shown!r}")
        return value

    def _error(self, key: str, message: str) -> UsageError:
        return UsageError(f"{self._source}: {key} {message}")
