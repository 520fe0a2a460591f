"""Which lines of a batch are done. Lines end in any order; what is kept does not grow with the
batch."""

from __future__ import annotations

from collections.abc import Iterable


class Done:
    """All lines before `low`, and those in `ahead`."""

    def __init__(self, low: int = 0, low_offset: int = 0, ahead: Iterable[int] = ()) -> None:
        self.low = low
        """The first line that is not done."""
        self.low_offset = low_offset
        """Where in the input it begins."""
        self.ahead = set(ahead)
        self._ends: dict[int, int] = {}
        """Of lines from `low` on that were read: where the next begins."""

    def __contains__(self, line: int) -> bool:
        return line < self.low or line in self.ahead

    def read(self, line: int, end_offset: int) -> None:
        """A line was read, and the next begins there."""
        if line >= self.low:
            self._ends[line] = end_offset
            self._advance()

    def add(self, line: int) -> None:
        """It is done, and not for the second time."""
        assert line not in self, f"line {line} was done before"
        self.ahead.add(line)
        self._advance()

    def _advance(self) -> None:
        while self.low in self.ahead and self.low in self._ends:
            self.ahead.remove(self.low)
            self.low_offset = self._ends.pop(self.low)
            self.low += 1
