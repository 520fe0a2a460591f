"""Which promised paces a pause breaks."""

from __future__ import annotations

import pytest

from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.paces import Pause
from fairlead.fleet.tracked import Tracked
from fairlead.model import Objective
from tests.strategies import request

PACE_S, STEP_S = 0.05, 0.01
PACED = Objective("x", ttft_s=1.0, tpot_s=PACE_S)


def lengths(*seen: int) -> OutputLengths:
    found = OutputLengths(window=4)
    for tokens in seen:
        found.add(tokens)
    return found


def stream(produced: int, age_s: float, objective: Objective = PACED) -> Tracked:
    tracked = Tracked(request(objective=objective), 0.0)
    tracked.produced = [0] * produced
    tracked.first_token_s = 10.0 - age_s
    return tracked


def pause(pause_s: float, *seen: int) -> Pause:
    return Pause(pause_s, STEP_S, lengths(*seen), 10.0)


def test_of_those_who_wait_the_answers_that_are_too_short_to_catch_up_break() -> None:
    # 0.4 s are caught up in ten tokens: half of the answers are shorter.
    waiting = [stream(0, 0.0), stream(0, 0.0)]
    assert pause(0.4, 5, 8, 100, 200).breaks_of_waiting(waiting) == pytest.approx(1.0)


def test_a_stream_that_runs_ahead_bears_a_pause() -> None:
    """A hundred tokens in one second are four seconds ahead."""
    ahead = stream(100, 1.0)
    assert pause(3.9, 120, 150).breaks_of_decoding([ahead]) == 0.0
    assert pause(4.4, 105, 150).breaks_of_decoding([ahead]) == 0.5


def test_what_is_lost_already_and_what_was_promised_nothing_do_not_count() -> None:
    late, batch = stream(10, 3.0), stream(3, 0.03, Objective("batch"))
    assert pause(9.0, 20, 30).breaks_of_decoding([late, batch]) == 0.0


def test_nobody_is_asked_behind_one_who_bears_it() -> None:
    bears, breaks = stream(100, 1.0), stream(1, 0.01)
    assert pause(0.2, 2, 3).breaks_of_decoding([breaks, bears]) == 1.0
    assert pause(0.2, 2, 3).breaks_of_decoding([bears, breaks]) == 0.0


def test_a_pace_that_steps_cannot_keep_is_not_divided_by() -> None:
    slow = Pause(0.2, 2 * PACE_S, lengths(2, 300), 10.0)
    assert slow.breaks_of_waiting([stream(0, 0.0)]) == 0.5


def test_lengths_forget_the_oldest() -> None:
    seen = lengths(1, 1, 1, 1, 9, 9)
    assert seen.share_ending(0, 5) == 0.5
    assert seen.share_ending(5, 5) == 1.0
    assert seen.share_ending(9, 5) == 0.0
