"""Which promised paces one more prompt breaks."""

from __future__ import annotations

import pytest

from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.paces import LASTING, UNSURE, Added
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


def stream(produced: int, age_s: float) -> tuple[float, Tracked]:
    tracked = Tracked(request(objective=PACED), 0.0)
    tracked.produced = [0] * produced
    tracked.first_token_s = 10.0 - age_s
    return PACE_S, tracked


def added(
    pause_s: float, *seen: int, token_s: float = STEP_S, slower_s: float = 0.0, queued_s: float = 0
) -> Added:
    return Added(pause_s, queued_s, token_s, slower_s or token_s, lengths(*seen), 10.0)


def test_of_those_who_wait_the_answers_that_are_too_short_to_catch_up_break() -> None:
    # 0.4 s are caught up in ten tokens: half of the answers are shorter.
    waiting = [(PACE_S, 0), (PACE_S, 0)]
    assert added(0.4, 5, 8, 100, 200).breaks_of_waiting(waiting, 0.1) == pytest.approx(1.0)


def test_whom_others_break_already_it_does_not_break() -> None:
    """0.4 s behind are caught up in ten tokens, 0.8 s in twenty: one answer in four more."""
    waiting = [(PACE_S, 4)]
    assert added(0.4, 5, 8, 15, 200).breaks_of_waiting(waiting, 0.1) == pytest.approx(0.25)
    assert added(0.4, 5, 8, 9, 200).breaks_of_waiting(waiting, 0.1) == 0.0


def test_a_stream_that_runs_ahead_bears_a_pause() -> None:
    """A hundred tokens in one second are four seconds ahead."""
    ahead = stream(100, 1.0)
    assert added(3.9, 120, 150).breaks_of_decoding([ahead]) == 0.0
    assert added(4.4, 105, 150).breaks_of_decoding([ahead]) == 0.5


def test_what_is_computed_before_it_uses_up_what_a_stream_is_ahead() -> None:
    ahead = stream(100, 1.0)
    assert added(0.4, 105, 150, queued_s=3.9).breaks_of_decoding([ahead]) == 0.5


def test_what_is_lost_already_does_not_count() -> None:
    assert added(9.0, 20, 30).breaks_of_decoding([stream(10, 3.0)]) == 0.0


def test_nobody_is_asked_behind_one_who_bears_it() -> None:
    bears, breaks = stream(100, 1.0), stream(1, 0.01)
    assert added(0.2, 2, 3).breaks_of_decoding([breaks, bears]) == 1.0
    assert added(0.2, 2, 3).breaks_of_decoding([bears, breaks]) == 0.0


def test_where_tokens_take_nearly_as_long_as_promised_next_to_nothing_is_caught_up() -> None:
    # At that pace alone half of all would break.
    at_pace = added(0.2, 2, 9, 70, 300, token_s=PACE_S)
    assert at_pace.breaks_of_waiting([(PACE_S, 0)], 0.1) == pytest.approx(0.25)


def test_prompts_that_come_too_fast_break_the_own_pace_too() -> None:
    assert added(0.1, 100, slower_s=0.5 * PACE_S).breaks_own(PACE_S) == 0.0
    assert added(0.1, 100, slower_s=PACE_S).breaks_own(PACE_S) == pytest.approx(0.5)
    assert added(0.1, 100, slower_s=2 * PACE_S).breaks_own(PACE_S) == 1.0
    assert added(0.1, 100, slower_s=2 * PACE_S).breaks_own(None) == 0.0


def test_more_prompts_of_its_kind_are_borne_by_a_part_of_those_who_decode() -> None:
    decoding = [(PACE_S, 20)]
    grows = added(0.1, 100, token_s=0.7 * PACE_S, slower_s=0.9 * PACE_S)
    assert grows.breaks_by_and_by(decoding) == pytest.approx(20 * LASTING * 0.2 / (2 * UNSURE))
    # Far from the pace nobody is hurt, and beyond it nobody is left.
    for token, slower in ((0.1, 0.4), (1.6, 2.0)):
        one = added(0.1, token_s=token * PACE_S, slower_s=slower * PACE_S)
        assert one.breaks_by_and_by(decoding) == 0.0


def test_one_that_makes_tokens_too_slow_for_all_breaks_all() -> None:
    waiting = [(PACE_S, 0)] * 3
    worse = added(0.01, 100, token_s=0.5 * PACE_S, slower_s=1.5 * PACE_S)
    assert worse.breaks_of_waiting(waiting, 0.1) == pytest.approx(3.0)
    lost = added(0.01, 100, token_s=1.5 * PACE_S, slower_s=2 * PACE_S)
    assert lost.breaks_of_waiting(waiting, 0.1) == 0.0


def test_lengths_forget_the_oldest() -> None:
    seen = lengths(1, 1, 1, 1, 9, 9)
    assert seen.share_ending(0, 5) == 0.5
    assert seen.share_ending(5, 5) == 1.0
    assert seen.share_ending(9, 5) == 0.0
