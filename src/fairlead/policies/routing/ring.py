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
        self._candidates: Sequence[InstanceView] = ()
        self._present: dict[InstanceId, InstanceView] = {}
        """Those candidates, by name."""

    def clockwise(
        self, key: bytes, candidates: Sequence[InstanceView], ring: bytes = b""
    ) -> Iterator[InstanceView]:
        """Each candidate once, from the key's own point on. Another name of the `ring` puts the
        same key somewhere else."""
        if candidates != self._candidates:  # Mostly the same ones as last time.
            self._show(candidates)
        present, points = self._present, self._points
        passed: dict[InstanceId, None] = {}
        start = bisect_right(points, (_point(key, ring),))
        for i in range(start - len(points), start):
            id = points[i][1]
            if id in present and id not in passed:
                passed[id] = None
                yield present[id]
                if len(passed) == len(present):
                    return

    def _show(self, candidates: Sequence[InstanceView]) -> None:
        """Gives newcomers their places."""
        self._candidates = list(candidates)
        self._present = {view.id: view for view in candidates}
        newcomers = [id for id in self._present if id not in self._known]
        if newcomers and len(self._known) > OUTGROWN * (len(self._present) + SOME):
            self._points, self._known = [], {}
            newcomers = list(self._present)
        if newcomers:
            self._known.update(dict.fromkeys(newcomers))
            self._points += [point for id in newcomers for point in self._places(id)]
            self._points.sort()

    def _places(self, id: InstanceId) -> list[tuple[int, InstanceId]]:
        name = id.encode()
        return [(_point(name, i.to_bytes(4, "big")), id) for i in range(self._n_points)]


def own_key(request: RequestView) -> bytes:
    """The key of a request that shares nothing with others."""
    return request.id.encode()


def _point(key: bytes, ring: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8, person=ring).digest(), "big")
