"""When requests began on one instance, and what that says to those who wait there."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import islice

RATE_OF = 64
"""How fast requests begin is taken from so many of the last ones that began while others waited;"""
RATE_NEEDS = 8
"""from fewer it is not known."""
REMEMBERED = 512


class Turns:
    __slots__ = ("_begun_s", "_patient", "_queue_since_s")

    def __init__(self, now: float) -> None:
        self._begun_s: deque[float] = deque(maxlen=REMEMBERED)
        """When the last first tokens came."""
        self._patient: deque[bool] = deque(maxlen=RATE_OF)
        """Whether they were of requests that let others go first."""
        self._queue_since_s = now
        """Since when somebody has waited all the time."""

    def began(self, now: float, patient: bool) -> None:
        self._begun_s.append(now)
        self._patient.append(patient)

    def nobody_waits(self, now: float) -> None:
        self._queue_since_s = now

    def n_later_than(self, since_s: float) -> int:
        """How many began after that."""
        return len(self._begun_s) - bisect_right(self._begun_s, since_s)

    def wait_s(self, n_ahead: int, now: float) -> float:
        """Time until so many have begun, as fast as others did while there was a queue; 0 where
        that is not known."""
        if n_ahead < RATE_NEEDS:
            return 0.0
        n_begun, elapsed_s = self._lately(now)
        return n_ahead * elapsed_s / n_begun if n_begun else 0.0

    def patient_wait_s(self, n_ahead: int, now: float) -> float:
        """Time until so many patient ones have begun, as fast as others did while there was a
        queue. Those who cannot wait come all the time, and pass them until they are due."""
        n_begun, elapsed_s = self._lately(now)
        if not n_begun:
            return 0.0
        # At least one, or the first of them would never be let in.
        n_patient = max(sum(islice(reversed(self._patient), n_begun)), 1)
        return n_ahead * elapsed_s / n_patient

    def _lately(self, now: float) -> tuple[int, float]:
        """How many of the last began while others waited, and in what time; 0 where too few to
        say."""
        n = len(self._begun_s)
        if n < RATE_NEEDS:
            return 0, 0.0
        since_s = max(self._begun_s[-min(n, RATE_OF)], self._queue_since_s)
        n_begun = self.n_later_than(since_s)
        return (n_begun, now - since_s) if n_begun >= RATE_NEEDS else (0, 0.0)
