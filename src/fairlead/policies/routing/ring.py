"""Consistent hashing: instances and keys as points on one circle.

When an instance comes or goes only the keys next to its points change hands.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
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
        self._points = array("Q")
        """In order; numbers side by side, since a search among a thousand instances' reads many."""
        self._owners: list[InstanceId] = []
        """Whose each point is."""
        self._known: dict[InstanceId, None] = {}
        self._candidates: Sequence[InstanceView] = ()
        self._present: dict[InstanceId, InstanceView] = {}
        """Those candidates, by name."""

    def clockwise(
        self, key: bytes, candidates: Sequence[InstanceView], ring: bytes = b""
    ) -> Iterator[InstanceView]:
        """Each candidate once, from the key's own point on. Another name of the `ring` puts the
        same key somewhere else."""
        self.show(candidates)
        return self.walk(key, ring)

    def walk(self, key: bytes, ring: bytes = b"") -> Iterator[InstanceView]:
        """The same among the candidates that were shown last."""
        present, owners = self._present, self._owners
        passed: dict[InstanceId, None] = {}
        start = bisect_left(self._points, _point(key, ring))
        for i in range(start - len(owners), start):
            id = owners[i]
            if id in present and id not in passed:
                passed[id] = None
                yield present[id]
                if len(passed) == len(present):
                    return

    def show(self, candidates: Sequence[InstanceView]) -> None:
        """Gives newcomers their places. Mostly they are the same ones as last time."""
        if candidates == self._candidates:
            return
        self._candidates = list(candidates)
        self._present = {view.id: view for view in candidates}
        newcomers = [id for id in self._present if id not in self._known]
        if newcomers and len(self._known) > OUTGROWN * (len(self._present) + SOME):
            self._points, self._owners, self._known = array("Q"), [], {}
            newcomers = list(self._present)
        if newcomers:
            self._known.update(dict.fromkeys(newcomers))
            places = list(zip(self._points, self._owners, strict=True))
            places += [place for id in newcomers for place in self._places(id)]
            places.sort()
            self._points = array("Q", [point for point, _ in places])
            self._owners = [owner for _, owner in places]

    def _places(self, id: InstanceId) -> list[tuple[int, InstanceId]]:
        name = id.encode()
        return [(_point(name, i.to_bytes(4, "big")), id) for i in range(self._n_points)]


def own_key(request: RequestView) -> bytes:
    """The key of a request that shares nothing with others."""
    return request.id.encode()


def _point(key: bytes, ring: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8, person=ring).digest(), "big")
