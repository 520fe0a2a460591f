"""Which promised paces one more prompt would break.

A pace is the mean over an answer, so a stream that runs ahead of it bears a pause, the longer it
has run the longer a one, and a stream that has just begun bears next to none. Whether it catches up
again hangs on how long its answer turns out to be, as those that end sooner have missed their pace,
and on how much of its time goes to the prompts that keep coming: where they take all that the pace
leaves, nobody catches up.
Most streams of an instance have run for long, so what a prompt costs those who decode is not how
many they are but how many are new.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.tracked import Tracked

LEAST_SPARE_S = 1e-3
"""Where tokens take as long as was promised, nothing is ever caught up: not divided by nothing."""
UNSURE = 0.5
"""At which rate prompts will come is known to about this fraction of the time a token may take."""
LASTING = 0.1
"""Of those who decode, the part whose pace hangs on how fast prompts come from now on: most are far
ahead of theirs, or nearly through."""


@dataclass(frozen=True, slots=True)
class Added:
    """One more prompt on one instance: what it breaks. Times in seconds."""

    pause_s: float
    """While it is computed, nobody gets a token."""
    queued_s: float
    """The pauses of those that are computed before it."""
    token_s: float
    """What a token takes, with the time of the prompts that keep coming."""
    slower_s: float
    """The same if one more of them comes as often as the others do."""
    lengths: OutputLengths
    now: float

    def breaks_own(self, pace_s: float | None) -> float:
        """The chance that the pace promised to its own answer is broken."""
        return 0.0 if pace_s is None else _chance_slow(self.slower_s, pace_s)

    def breaks_by_and_by(self, decoding: Iterable[Tracked]) -> float:
        """Expected among those that decode, who bear this prompt and would not bear one more of its
        kind each time."""
        broken = 0.0
        at_pace: dict[float, float] = {}  # There are few paces, and many who were promised them.
        for one in decoding:
            pace_s = one.request.objective.tpot_s
            if pace_s is None:
                continue
            more = at_pace.get(pace_s)
            if more is None:
                slower, slow = (
                    _chance_slow(self.slower_s, pace_s),
                    _chance_slow(self.token_s, pace_s),
                )
                more = at_pace[pace_s] = slower - slow
            broken += more
        return LASTING * broken

    def breaks_of_waiting(self, newest_first: Iterable[tuple[Tracked, float]]) -> float:
        """Expected among those that decode when it comes and have not begun now, each with the
        pauses of those that are computed between it and this one."""
        broken = 0.0
        for one, behind_s in newest_first:
            pace_s = one.request.objective.tpot_s
            if pace_s is not None:
                broken += self._more_broken(0, pace_s, behind_s)
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
            ahead_s = produced * pace_s - (self.now - begun_s)
            if ahead_s >= self.queued_s + self.pause_s:
                break
            if ahead_s >= 0:
                broken += self._more_broken(produced, pace_s, self.queued_s - ahead_s)
        return broken

    def _more_broken(self, produced: int, pace_s: float, behind_s: float) -> float:
        """By this prompt, among those that what is queued puts so far behind their pace."""
        with_it = self._share_broken(produced, pace_s, self.slower_s, behind_s + self.pause_s)
        without = self._share_broken(produced, pace_s, self.token_s, behind_s)
        return max(with_it - without, 0.0)

    def _share_broken(self, produced: int, pace_s: float, token_s: float, behind_s: float) -> float:
        slow = _chance_slow(token_s, pace_s)
        if slow >= 1 or behind_s <= 0:
            return slow
        caught_up = behind_s / max(pace_s - token_s, LEAST_SPARE_S)
        return max(slow, self.lengths.share_ending(produced, caught_up))


def _chance_slow(token_s: float, pace_s: float) -> float:
    """That tokens will take longer than the pace allows, if they are expected to take `token_s`."""
    chance = (token_s / pace_s - 1 + UNSURE) / (2 * UNSURE)
    return 0.0 if chance < 0.0 else 1.0 if chance > 1.0 else chance
