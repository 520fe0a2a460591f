"""Consistent hashing: instances and keys as points on one circle.

When an instance comes or goes only the keys next to its points change hands.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b

from fairlead.model import InstanceId, InstanceView, RequestView

OUTGROWN = 4
"""A ring that holds so many times the instances present, and a few, forgets those absent: they
are probably gone, and walking past them takes time."""
SOME = 8


class Ring:
    """Remembers the instances that it was shown, each at `n_points` places. Those that are not
    among the candidates at the moment keep their places and are walked past, so that keys come
    back to an instance that was full or away."""

    def __init__(self, n_points: int) -> None:
        self._n_points = n_points
        self._points: list[tuple[int, InstanceId]] = []
        self._known: dict[InstanceId, None] = {}

    def clockwise(
        self, key: bytes, candidates: Sequence[InstanceView], ring: bytes = b""
    ) -> Iterator[InstanceView]:
        """Each candidate once, from the key's own point on. Another name of the `ring` puts the
        same key somewhere else."""
        present = {view.id: view for view in candidates}
        self._admit(present)
        start = bisect_right(self._points, (_point(key, ring),))
        for i in range(start - len(self._points), start):
            view = present.pop(self._points[i][1], None)
            if view is not None:
                yield view
            if not present:
                return

    def _admit(self, present: dict[InstanceId, InstanceView]) -> None:
        """Gives newcomers their places."""
        if present.keys() <= self._known.keys():
            return
        if len(self._known) > OUTGROWN * (len(present) + SOME):
            self._points.clear()
            self._known.clear()
        for id in present:
            if id not in self._known:
                self._known[id] = None
                name = id.encode()
                self._points += [
                    (_point(name, i.to_bytes(4, "big")), id) for i in range(self._n_points)
                ]
        self._points.sort()


def own_key(request: RequestView) -> bytes:
    """The key of a request that shares nothing with others."""
    return request.id.encode()


def _point(key: bytes, ring: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8, person=ring).digest(), "big")
