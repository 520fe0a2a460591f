"""How much of one instance's time goes to the prompts that keep coming."""

from __future__ import annotations

from collections import deque

from fairlead.model import RequestId

RATE_OF = 24
"""The rate is that of so many of the last prompts; from fewer it is not known. So few follow a
burst, and so many tell it from chance, to about a fifth where prompts are alike."""


class PromptFlow:
    __slots__ = ("_came", "_sum_s")

    def __init__(self) -> None:
        self._came: deque[tuple[float, float, RequestId]] = deque()
        """When prompts came, how long each keeps everybody who decodes waiting, and whose it is."""
        self._sum_s = 0.0

    def add(self, now: float, pause_s: float, request: RequestId) -> None:
        if len(self._came) == RATE_OF:
            self._sum_s -= self._came.popleft()[1]
        self._came.append((now, pause_s, request))
        self._sum_s += pause_s

    def withdraw(self, request: RequestId) -> None:
        """Its prompt will not be computed: it was refused, or nobody wants it any more."""
        for one in self._came:
            if one[2] == request:
                self._came.remove(one)
                self._sum_s -= one[1]
                return

    def share(self, now: float, pause_s: float = 0.0) -> float:
        """The part of the time that prompts take, at the rate at which they came lately and with
        one more; 1 and above where they come faster than they are computed, 0 while unknown."""
        if len(self._came) < RATE_OF:
            return 0.0
        elapsed_s = now - self._came[0][0]
        taken_s = self._sum_s + pause_s
        return taken_s / elapsed_s if elapsed_s > 0 else float(taken_s > 0)
