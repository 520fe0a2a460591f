"""How long answers are, as far as the fleet has seen."""

from __future__ import annotations

from collections import deque

from fairlead.model import RequestView


class OutputLengths:
    """The mean of the output lengths that finished lately."""

    def __init__(self, window: int = 200, initial_tokens: int = 200) -> None:
        """`initial_tokens` is the guess until something has finished."""
        self._window: deque[int] = deque(maxlen=window)
        self._sum = 0
        self.mean = float(initial_tokens)

    def add(self, output_tokens: int) -> None:
        if len(self._window) == self._window.maxlen:
            self._sum -= self._window[0]
        self._window.append(output_tokens)
        self._sum += output_tokens
        self.mean = self._sum / len(self._window)

    def expected(self, request: RequestView) -> float:
        """Output tokens to expect of a request: its client's own guess where there is one."""
        guess = request.expected_output_tokens
        return min(self.mean if guess is None else guess, request.max_tokens)
