"""A stream's figures, from bytes and times alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.client.stream import StreamMeter


class Gaps(list[tuple[float, int]]):
    def add(self, gap_s: float, n: int) -> None:
        self.append((gap_s, n))


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def token(text: str = "x", **more: Any) -> bytes:
    return event(choices=[{"text": text, "finish_reason": None}], **more)


def placed(position: int, n: int = 1) -> bytes:
    return token(fairlead={"position": position, "n": n})


END = event(choices=[{"text": "", "finish_reason": "length"}])
DONE = b"data: [DONE]\n\n"


def metered(*data: bytes, check: bool = False, asked: int | None = None) -> StreamMeter:
    """Fed one piece a second, from second 1 on."""
    meter = StreamMeter(Gaps().add, check)
    for second, piece in enumerate(data, 1):
        meter.feed(piece, float(second))
    meter.close(asked)
    return meter


def test_first_and_last_token_and_the_gaps_between() -> None:
    gaps = Gaps()
    meter = StreamMeter(gaps.add)
    for second, piece in ((1.0, token()), (1.5, token()), (3.0, token() + token()), (4.0, END)):
        meter.feed(piece, second)
    meter.feed(DONE, 5.0)
    meter.close(4)
    assert (meter.first_token_s, meter.last_token_s, meter.output_tokens) == (1.0, 3.0, 4)
    assert gaps == [(0.5, 1), (1.5, 1), (0.0, 1)]
    assert not meter.error


@given(st.lists(st.integers(1, 40), max_size=40))
def test_it_does_not_matter_where_the_network_cuts(cuts: list[int]) -> None:
    whole = b": hello\n\n" + token() + placed(3, 2).replace(b"\n\n", b"\r\n\r\n") + END
    whole += event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 9}) + DONE
    pieces, rest = [], whole
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    meter = metered(*pieces, rest)
    assert (meter.n_tokens, meter.output_tokens, meter.prompt_tokens) == (3, 9, 7)
    assert (meter.done, meter.finish_reason, meter.error) == (True, "length", "")


def test_usage_tells_cached_tokens() -> None:
    usage = {"completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 64}}
    assert metered(token(), event(choices=[], usage=usage), DONE).cached_tokens == 64
    usage = {"completion_tokens": 1, "prompt_tokens_details": None}
    assert metered(token(), event(choices=[], usage=usage), DONE).cached_tokens is None


def test_the_chunk_that_names_the_role_is_no_token() -> None:
    role = event(choices=[{"delta": {"role": "assistant", "content": ""}}])
    said = event(choices=[{"delta": {"content": "hi"}}])
    thought = event(choices=[{"delta": {"reasoning_content": "hm"}}])
    meter = metered(role, thought, said, DONE)
    assert (meter.first_token_s, meter.n_tokens) == (2.0, 2)


def test_a_token_that_shows_no_text_yet_counts() -> None:
    assert metered(token(""), token(), END, DONE).first_token_s == 1.0


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((token(),), "broke off"),
        ((), "broke off"),
        ((token(), event(error={"message": "gone"})), "gone"),
        ((token(), event(error="gone")), "gone"),
        ((b"data: {nonsense\n\n", DONE), "no completion chunk"),
        ((b'data: {"choices": 5}\n\n', DONE), "no completion chunk"),
    ],
)
def test_a_broken_stream_has_failed(pieces: tuple[bytes, ...], message: str) -> None:
    assert message in metered(*pieces).error


def test_an_endless_line_is_given_up() -> None:
    meter = StreamMeter(Gaps().add)
    for _ in range(20):
        meter.feed(b"data: " + b"x" * 1024 * 1024, 0.0)
    meter.close(None)
    assert "an event of over" in meter.error


def test_positions_in_order_are_fine() -> None:
    meter = metered(placed(0), placed(1, 3), placed(4), END, DONE, check=True, asked=5)
    assert meter.positions is not None
    assert meter.positions.ok
    assert meter.n_tokens == 5


@pytest.mark.parametrize(
    ("pieces", "repeated", "skipped", "unmarked"),
    [
        ((placed(0), placed(1), placed(1), placed(2)), 1, 0, 0),
        ((placed(0, 2), placed(1, 2)), 1, 0, 0),
        ((placed(0), placed(2)), 0, 1, 0),
        ((placed(1), placed(2)), 0, 1, 0),
        ((placed(0), placed(1)), 0, 1, 0),  # the last one never came
        ((placed(0, 4),), 1, 0, 0),  # one more than asked for
        ((placed(0), token(), placed(1, 2)), 0, 0, 1),
    ],
)
def test_positions_that_repeat_or_skip_are_found(
    pieces: tuple[bytes, ...], repeated: int, skipped: int, unmarked: int
) -> None:
    check = metered(*pieces, END, DONE, check=True, asked=3).positions
    assert check is not None
    assert (check.repeated, check.skipped, check.unmarked) == (repeated, skipped, unmarked)
    assert not check.ok
    assert check.first_fault
