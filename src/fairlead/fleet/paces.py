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

from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.tracked import Tracked

LEAST_SPARE_S = 1e-3
"""Where tokens take as long as was promised, nothing is ever caught up: not divided by nothing."""
UNSURE = 0.4
"""At which rate prompts will come is known to about this fraction of the time a token may take."""
LASTING = 0.3
"""Of those who decode, the part whose pace hangs on how fast prompts come from now on: most are far
ahead of theirs, or nearly through."""


class _AtPace:
    """What the prompt changes for streams of one promised pace: there are few paces, and many who
    were promised them."""

    __slots__ = ("slow", "slower", "spare_s", "spare_with_it_s")

    def __init__(self, pace_s: float, token_s: float, slower_s: float) -> None:
        self.slow = _chance_slow(token_s, pace_s)
        self.slower = _chance_slow(slower_s, pace_s)
        """The same if more prompts of its kind come."""
        self.spare_s = max(pace_s - token_s, LEAST_SPARE_S)
        """Caught up with each token."""
        self.spare_with_it_s = max(pace_s - slower_s, LEAST_SPARE_S)


class Added:
    """One more prompt on one instance: what it breaks. Times in seconds."""

    __slots__ = (
        "_at_pace",
        "_lengths",
        "_now",
        "_pause_s",
        "_queued_s",
        "_slower_s",
        "_token_s",
    )

    def __init__(
        self,
        pause_s: float,
        queued_s: float,
        token_s: float,
        slower_s: float,
        lengths: OutputLengths,
        now: float,
    ) -> None:
        """While the prompt is computed, for `pause_s`, nobody gets a token; `queued_s` are the
        pauses of those that are computed before it. `token_s` is what a token takes, with the time
        of the prompts that keep coming, and `slower_s` the same if one more of them comes as often
        as the others do."""
        self._pause_s = pause_s
        self._queued_s = queued_s
        self._token_s = token_s
        self._slower_s = slower_s
        self._lengths = lengths
        self._now = now
        self._at_pace: dict[float, _AtPace] = {}

    def breaks_own(self, pace_s: float | None) -> float:
        """The chance that the pace promised to its own answer is broken."""
        return 0.0 if pace_s is None else self._of(pace_s).slower

    def breaks_by_and_by(self, decoding: Iterable[tuple[float, int]]) -> float:
        """Expected among those that decode, who bear this prompt and would not bear one more of its
        kind each time: their paces, and how many have each."""
        broken = 0.0
        for pace_s, n in decoding:
            at_pace = self._of(pace_s)
            broken += n * (at_pace.slower - at_pace.slow)
        return LASTING * broken

    def breaks_of_waiting(
        self, newest_first: Iterable[tuple[float, int]], pause_s_per_token: float
    ) -> float:
        """Expected among those that decode when it comes and have not begun now: the pace of each,
        with the tokens of prompts that are computed between it and this one."""
        broken = 0.0
        for pace_s, tokens_behind in newest_first:
            broken += self._more_broken(0, pace_s, pause_s_per_token * tokens_behind)
        return broken

    def breaks_of_decoding(self, newest_first: Iterable[tuple[float, Tracked]]) -> float:
        """Expected among those that decode, each with its pace, up to the first that bears it:
        those who have decoded for longer do too. What has missed its pace by now is not counted."""
        broken = 0.0
        for pace_s, one in newest_first:
            if one.first_token_s is None:
                continue
            produced = len(one.produced)
            ahead_s = produced * pace_s - (self._now - one.first_token_s)
            if ahead_s >= self._queued_s + self._pause_s:
                break
            if ahead_s >= 0:
                broken += self._more_broken(produced, pace_s, self._queued_s - ahead_s)
        return broken

    def _of(self, pace_s: float) -> _AtPace:
        at_pace = self._at_pace.get(pace_s)
        if at_pace is None:
            at_pace = _AtPace(pace_s, self._token_s, self._slower_s)
            self._at_pace[pace_s] = at_pace
        return at_pace

    def _more_broken(self, produced: int, pace_s: float, behind_s: float) -> float:
        """By this prompt, among those that what is queued puts so far behind their pace: who ends
        before they have caught up has missed it."""
        at_pace, share_ending = self._of(pace_s), self._lengths.share_ending
        without, with_it = at_pace.slow, at_pace.slower
        if without >= 1:
            return 0.0
        if behind_s > 0:
            without = max(without, share_ending(produced, behind_s / at_pace.spare_s))
        behind_s += self._pause_s
        if with_it < 1 and behind_s > 0:
            with_it = max(with_it, share_ending(produced, behind_s / at_pace.spare_with_it_s))
        return max(with_it - without, 0.0)


def _chance_slow(token_s: float, pace_s: float) -> float:
    """That tokens will take longer than the pace allows, if they are expected to take `token_s`."""
    chance = (token_s / pace_s - 1 + UNSURE) / (2 * UNSURE)
    return 0.0 if chance < 0.0 else 1.0 if chance > 1.0 else chance
