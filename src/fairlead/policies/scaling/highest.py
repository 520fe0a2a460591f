"""The highest of the values of the last seconds: what keeps a pool from shrinking at every lull."""

from __future__ import annotations

from collections import deque


class Highest:
    """Remembers only values that can still become the highest."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._kept: deque[tuple[float, int]] = deque()
        """Times and values, the highest and oldest first."""

    def add(self, now: float, value: int) -> int:
        """The highest of the window, this one among them."""
        kept = self._kept
        while kept and kept[-1][1] <= value:
            kept.pop()
        kept.append((now, value))
        while kept[0][0] < now - self._window_s:
            kept.popleft()
        return kept[0][1]

    @property
    def empty(self) -> bool:
        """Whether nothing was ever added."""
        return not self._kept
