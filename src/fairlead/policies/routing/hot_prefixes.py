"""How many of the recent requests begin alike: which prefixes are too hot for two instances."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from fairlead.model import BlockHash

SETTLED = 4
"""Requests for each instance after which a share says something; of fewer it is taken as if there
had been as many."""


class HotPrefixes:
    """A tree of prefixes with the share of the last `window` requests that begin with each. It
    holds the prefixes of those requests and no others."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._paths: deque[Sequence[BlockHash]] = deque()
        self._counts: Counter[BlockHash] = Counter()
        self._split: dict[BlockHash, None] = {}
        """Prefixes that are told apart by what follows them."""

    def key(self, path: Sequence[BlockHash], n_instances: int) -> BlockHash:
        """Counts a request whose prompt has these prefixes, from the shortest on, and returns the
        one to place it by: a longer one as long as more than two instances' share of all requests
        begins with it, until less than one instance's share does."""
        self._count(path)
        n = max(len(self._paths), SETTLED * n_instances)
        for prefix in path[:-1]:
            share = self._counts[prefix] / n
            if share > 2 / n_instances:
                self._split[prefix] = None
            elif share < 1 / n_instances:
                self._split.pop(prefix, None)
            if prefix not in self._split:
                return prefix
        return path[-1]

    def _count(self, path: Sequence[BlockHash]) -> None:
        self._paths.append(path)
        for prefix in path:
            self._counts[prefix] += 1
        if len(self._paths) > self._window:
            for prefix in self._paths.popleft():
                self._counts[prefix] -= 1
                if not self._counts[prefix]:
                    del self._counts[prefix]
                    self._split.pop(prefix, None)
