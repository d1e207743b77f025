"""Keep the moderation policies that clients have sent, ready to judge uploaded pictures."""

from __future__ import annotations

import threading

from cachetools import LRUCache

from twinlens.index import Index
from twinlens.search.analysis.policy.file import Policy
from twinlens.search.analysis.policy.judge import Judge
from twinlens.search.errors import UsageError

#: Policies that are kept; the least recently used one is dropped first.
MAX_POLICIES = 32


class Policies:
    """An LRU cache of policies by collection, tenant and id; thread-safe."""

    def __init__(self) -> None:
        self._judges: LRUCache[tuple[str, str, str], Judge] = LRUCache(MAX_POLICIES)
        self._lock = threading.Lock()

    def add(self, index: Index, policy: Policy) -> Judge:
        """Encode a policy, choose its thresholds from what is stored now, and keep it.

        Returns:
            The judge; its ``digest`` is the policy's id.
        """
        judge = index.open_judge(policy)
        with self._lock:
            self._judges[index.collection, index.tenant, judge.digest] = judge
        return judge

    def forget(self, collection: str, tenant: str) -> None:
        """Drop the policies of a collection that was deleted, whose thresholds came from it.

        Args:
            collection: its name.
            tenant: whose policies; "" for those of all tenants.
        """
        with self._lock:
            for key in [key for key in self._judges if key[0] == collection]:
                if not tenant or key[1] == tenant:
                    del self._judges[key]

    def get(self, collection: str, tenant: str, key: str) -> Judge:
        """The policy with an id.

        Raises:
            UsageError: it was never sent, or was dropped.
        """
        with self._lock:
            judge = self._judges.get((collection, tenant, key))
        if judge is None:
            raise UsageError(
                f"the server does not have the policy {key[:32]!r}: send it to /v1/policies, or "
                "run the ingest once more"
            )
        return judge
