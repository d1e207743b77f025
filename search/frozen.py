"""``FrozenDict``: a read-only dict that can be pickled, copied and hashed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dict that cannot be changed.

    ``types.MappingProxyType`` cannot be pickled, copied deeply or hashed, so neither could a
    dataclass that has one, nor ``dataclasses.asdict`` read it.
    """

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none, since it changes
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[dict[K, V]]]:
        return type(self), (dict(self),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("this mapping cannot be changed: copy it with dict(...)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse
