"""A stream that is cut anywhere and goes on at another worker is the stream nobody disturbed."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model import Request
from fairlead.text import NANO, Tokenizer
from fairlead.worker.wire import Frame, Submit
from fairlead.worker.words import Vocabulary
from tests.worker.fakes import ByteWords, a_request, joined, text_of, tokens_of

vocabularies = st.sampled_from([ByteWords(), Vocabulary(Tokenizer.load(NANO))])
requests = st.builds(
    a_request,
    max_tokens=st.integers(1, 60),
    prompt=st.integers(1, 40),
    seed=st.integers(0, 2**63),
    ignore_eos=st.booleans(),
    min_tokens=st.integers(0, 20),
    stop=st.lists(st.sampled_from(["stop", "ö", " t", "☃ 𝄞", "e harb", "\n\n"]), max_size=2).map(
        tuple
    ),
)


@given(words=vocabularies, request=requests, cut=st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_a_stream_cut_anywhere_goes_on_as_if_nothing_had_happened(
    words: ByteWords | Vocabulary, request: Request, cut: int
) -> None:
    asyncio.run(_cut_and_compare(words, request, cut))


async def _cut_and_compare(words: ByteWords | Vocabulary, request: Request, cut: int) -> None:
    whole = await _listen(words, request, [], 10_000)
    before = await _listen(words, request, [], cut) if cut else []
    produced = tokens_of(before) if before else []
    after: list[Frame] = []
    if not (before and before[-1].ended):
        after = await _listen(words, request, produced, 10_000)
        assert after[0].rows[0].start == len(produced)
    assert tokens_of([*before, *after]) == tokens_of(whole)
    assert text_of([*before, *after]) == text_of(whole)
    assert [e.reason for e in (after or before)[-1].ended] == [e.reason for e in whole[-1].ended]


async def _listen(
    words: ByteWords | Vocabulary, request: Request, produced: list[int], most: int
) -> list[Frame]:
    """The frames of one attempt, until it ends or has brought `most` tokens."""
    frames: list[Frame] = []
    async with joined(words=words) as line:
        line.say(Submit(request, 1, produced))
        while not (frames and frames[-1].ended) and len(frames) < most:
            frames.append(await line.hear(Frame))
    return frames
