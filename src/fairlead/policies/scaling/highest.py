"""The highest of the values of the last seconds: what keeps a pool from shrinking at every lull."""

from __future__ import annotations

from collections import deque


class Highest:
    """Remembers only values that can still become the highest."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._kept: deque[tuple[float, int]] = deque()
        """Times and values, the highest and oldest first."""

    def settle(self, now: float, want: int, n: int) -> int:
        """What a pool of `n` should have that wants `want` now: more at once, less only down to
        the highest want of the window. Before a window has passed it never shrinks."""
        if not self._kept:
            self._add(now, n)
        self._add(now, want)
        return max(want, min(self._kept[0][1], n))

    def _add(self, now: float, value: int) -> None:
        kept = self._kept
        while kept and kept[-1][1] <= value:
            kept.pop()
        kept.append((now, value))
        while kept[0][0] < now - self._window_s:
            kept.popleft()
