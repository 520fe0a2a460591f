"""How many will decode a while from now, and at which pace."""

from __future__ import annotations

from bisect import bisect_right, insort


class Inside:
    """When each request that is inside should begin to decode, and when it should end."""

    def __init__(self) -> None:
        self._begin_s: list[float] = []
        self._end_s: list[float] = []
        """Both sorted, each for itself: only counts are asked for."""

    def add(self, begin_s: float, end_s: float) -> None:
        insort(self._begin_s, begin_s)
        insort(self._end_s, end_s)

    def share(self, now: float, at_s: float) -> float:
        """Of those who have not ended, the fraction that decodes at that time."""
        ended = bisect_right(self._end_s, now)
        del self._end_s[:ended], self._begin_s[:ended]  # They began before they ended.
        if not self._end_s:
            return 1.0  # Nothing is known of whoever is inside.
        decode = bisect_right(self._begin_s, at_s) - bisect_right(self._end_s, at_s)
        return decode / len(self._end_s)


class Pace:
    """Seconds per output token as a straight line over the batch: through the smallest one seen,
    and the last."""

    def __init__(self) -> None:
        self._least: tuple[float, float] | None = None
        """That batch and its pace."""
        self._s_per_sequence = 0.0

    def see(self, batch: float, tpot_s: float) -> None:
        if self._least is None or batch <= self._least[0]:
            self._least = (batch, tpot_s)
        else:
            least, least_s = self._least
            self._s_per_sequence = max((tpot_s - least_s) / (batch - least), 0.0)

    def tpot_s(self, batch: float) -> float:
        """Something must have been seen."""
        assert self._least is not None
        return self._least[1] + self._s_per_sequence * (batch - self._least[0])
