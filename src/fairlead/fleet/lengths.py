"""How long answers are, as far as the fleet has seen."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque

from fairlead.model import RequestView


class OutputLengths:
    """The output lengths that finished lately."""

    def __init__(self, window: int = 200, initial_tokens: int = 200) -> None:
        """`initial_tokens` is the guess until something has finished."""
        self._window: deque[int] = deque(maxlen=window)
        self._in_order: list[int] = []
        self._sum = 0
        self.mean = float(initial_tokens)

    def add(self, output_tokens: int) -> None:
        if len(self._window) == self._window.maxlen:
            oldest = self._window[0]
            self._sum -= oldest
            del self._in_order[bisect_left(self._in_order, oldest)]
        self._window.append(output_tokens)
        insort(self._in_order, output_tokens)
        self._sum += output_tokens
        self.mean = self._sum / len(self._window)

    def expected(self, request: RequestView) -> float:
        """Output tokens to expect of a request: its client's own guess where there is one."""
        guess, most = request.expected_output_tokens, request.max_tokens
        tokens = self.mean if guess is None else guess
        return tokens if tokens < most else most

    def share_ending(self, produced: int, tokens: float) -> float:
        """Of the answers longer than `produced`, the share that end before `tokens` more; 0 where
        none was seen that long."""
        lengths = self._in_order
        place = bisect_right(lengths, produced)
        longer = len(lengths) - place
        if not longer:
            return 0.0
        return (bisect_left(lengths, produced + tokens, place) - place) / longer
