"""Share what is limited among clients: each may use as much as is still free."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shares:
    """Count how much of a limited total each client uses.

    A client may use as much as all together leave free: half of the total if it is alone, and less
    the more of them there are. So one client never uses everything, and a new one finds room
    (A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet
    switches", 1998, with α = 1).

    Args:
        total: how much there is.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._of: dict[str, int] = {}

    def of(self, client: str) -> int:
        """How much a client uses."""
        return self._of.get(client, 0)

    def largest(self) -> str:
        """The client that uses most; "" if none uses anything."""
        return max(self._of, key=self._of.__getitem__, default="")

    def take(self, client: str, amount: int = 1, *, whole: bool = False) -> bool:
        """Use more, if the client's share and the total allow it; return whether they did.

        With ``whole``, the client's share is all that is free.
        """
        free = self.total - self.used
        if amount > free or (not whole and self.of(client) >= free):
            return False
        self._add(client, amount)
        return True

    def give_back(self, client: str, amount: int = 1) -> None:
        """Use less again."""
        self._add(client, -amount)

    def _add(self, client: str, amount: int) -> None:
        self.used += amount
        self._of[client] = self.of(client) + amount
        if not self._of[client]:
            del self._of[client]


class Places:
    """Shares where a client's newest use takes the place of its oldest ones.

    For what only waits: a client that lets much of it wait cannot keep out others, nor a request of
    its own that does not wait.

    Args:
        total: how much there is.
    """

    def __init__(self, total: int) -> None:
        self._shares = Shares(total)
        self._uses: dict[str, OrderedDict[object, tuple[int, Callable[[], None]]]] = {}

    @property
    def used(self) -> int:
        """How much all clients use."""
        return self._shares.used

    def enter(self, client: str, use: object, amount: int, evict: Callable[[], None]) -> None:
        """Begin a use, and evict the client's oldest ones if it has too many.

        If others have taken everything, the oldest one of the client with the most is evicted.

        Args:
            client: who.
            use: what; for ``leave``.
            amount: how much of the total.
            evict: called, once, if another takes its place.
        """
        while not self._shares.take(client, amount):
            loser = client if client in self._uses else self._shares.largest()
            if not loser:
                return  # larger than the total: there is nothing to share it with
            oldest = next(iter(self._uses[loser]))
            _, give_way = self._uses[loser][oldest]
            self.leave(loser, oldest)
            give_way()
        self._uses.setdefault(client, OrderedDict())[use] = (amount, evict)

    def leave(self, client: str, use: object) -> None:
        """End a use, unless it was evicted."""
        uses = self._uses.get(client)
        if uses is not None and use in uses:
            amount, _ = uses.pop(use)
            self._shares.give_back(client, amount)
            if not uses:
                del self._uses[client]


class FairQueue(Generic[T]):
    """A queue that serves its clients in turn, and each client's items in order."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[T]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, client: str, item: T) -> None:
        """Add a client's item."""
        self._of.setdefault(client, deque()).append(item)
        self._size += 1

    def get(self) -> T:
        """Remove the next item of the client whose turn it is.

        Raises:
            IndexError: the queue is empty.
        """
        if not self._of:
            raise IndexError("the queue is empty")
        client, items = self._of.popitem(last=False)
        self._size -= 1
        item = items.popleft()
        if items:
            self._of[client] = items
        return item
