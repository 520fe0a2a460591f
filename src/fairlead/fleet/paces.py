"""Which promised paces a pause would break.

A pace is the mean over an answer, so a stream that runs ahead of it bears a pause, the longer it
has run the longer a one, and a stream that has just begun bears next to none. Whether it catches up
again hangs on how long its answer turns out to be: those that end sooner have missed their pace.
Most streams of an instance have run for long, so what a prompt costs those who decode is not how
many they are but how many are new.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.tracked import Tracked

LEAST_SPARE_S = 1e-3
"""Where steps take as long as was promised, nothing is ever caught up: not divided by nothing."""


class Pause:
    """A pause of one instance: what it breaks."""

    __slots__ = ("_lengths", "_now", "_s", "_step_s")

    def __init__(self, pause_s: float, step_s: float, lengths: OutputLengths, now: float) -> None:
        """`step_s` is what a token takes there otherwise."""
        self._s = pause_s
        self._step_s = step_s
        self._lengths = lengths
        self._now = now

    def breaks_of_waiting(self, waiting: Iterable[Tracked]) -> float:
        """Expected among those that decode when it comes and have not begun now."""
        broken, last_pace_s, breaks = 0.0, None, 0.0
        for one in waiting:
            pace_s = one.request.objective.tpot_s
            if pace_s is not None:
                if pace_s != last_pace_s:  # Mostly all are promised the same.
                    last_pace_s, breaks = pace_s, self._breaks(0, pace_s, self._s)
                broken += breaks
        return broken

    def breaks_of_decoding(self, newest_first: Iterable[Tracked]) -> float:
        """Expected among those that decode, up to the first that bears it: those who have decoded
        for longer do too. What has missed its pace by now is not counted."""
        broken = 0.0
        for one in newest_first:
            pace_s, begun_s = one.request.objective.tpot_s, one.first_token_s
            if pace_s is None or begun_s is None:
                continue
            produced = len(one.produced)
            ahead_s = produced * pace_s - (self._now - begun_s)
            if ahead_s >= self._s:
                break
            if ahead_s >= 0:
                broken += self._breaks(produced, pace_s, self._s - ahead_s)
        return broken

    def _breaks(self, produced: int, pace_s: float, behind_s: float) -> float:
        spare_s = pace_s - self._step_s
        if spare_s < LEAST_SPARE_S:
            spare_s = LEAST_SPARE_S
        return self._lengths.share_ending(produced, behind_s / spare_s)
