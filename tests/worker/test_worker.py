"""A worker over a real socket, with an emulated engine that runs at thousands of steps a second."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from typing import cast

import msgspec
import pytest

from fairlead.instance.sequence import Sequence
from fairlead.model import FinishReason, RefuseWhy, RequestId, Row
from fairlead.worker.emulated import Emulated, EmulatedOutput
from fairlead.worker.wire import Abort, Drain, Frame, Goodbye, Heartbeat, Ping, Rejected, Submit
from tests.patience import PATIENCE_S
from tests.worker.fakes import (
    ByteWords,
    a_gateway,
    a_request,
    a_spec,
    a_worker,
    joined,
    running,
    text_of,
    tokens_of,
)


class SteppedExecutor(Emulated):
    """Runs a step when the test lets it, so that a test knows what happens within one."""

    def __init__(self) -> None:
        words = ByteWords()
        super().__init__(words.passage, words.eos_token_id)
        self.begun = asyncio.Semaphore(0)
        self.allowed = asyncio.Semaphore(0)
        self.rows: list[tuple[Row, ...]] = []

    async def run(
        self, rows: Seq[Row], sequences: Mapping[RequestId, Sequence], predicted_s: float
    ) -> EmulatedOutput:
        self.rows.append(tuple(rows))
        self.begun.release()
        await self.allowed.acquire()
        return await super().run(rows, sequences, 0.0)


async def test_tokens_come_in_order_and_the_text_is_theirs() -> None:
    async with joined() as line:
        line.say(Submit(a_request(max_tokens=50), 1, []))
        frames = await line.hear_end_of("r1")
    tokens = tokens_of(frames)
    assert tokens == list(ByteWords().passage(1, 0, 50))
    assert text_of(frames) == bytes(tokens).decode(errors="replace")
    assert frames[-1].ended[0].reason is FinishReason.LENGTH
    assert frames[0].rows[0].start == 0


async def test_one_frame_carries_the_tokens_of_all_sequences() -> None:
    executor = SteppedExecutor()
    async with joined(executor=executor) as line:
        line.say(*(Submit(a_request(f"r{i}", max_tokens=4), 1, []) for i in range(5)))
        await executor.begun.acquire()
        for _ in range(8):
            executor.allowed.release()
        await line.hear_end_of("r4")
    frames = [message for message in line.heard if isinstance(message, Frame)]
    assert max(len(frame.rows) for frame in frames) == 5


async def test_an_abort_ends_a_sequence_within_a_step() -> None:
    executor = SteppedExecutor()
    async with joined(executor=executor) as line:
        line.say(Submit(a_request(max_tokens=1000), 1, []))
        await executor.begun.acquire()
        line.say(Abort(RequestId("r1"), 1), Ping(1000.0))
        await line.hear(Heartbeat, lambda beat: beat.report.running == 1)
        executor.allowed.release()
        beat = await line.hear(Heartbeat, lambda beat: not beat.report.requests)
        assert beat.report.free_blocks + beat.report.cached_blocks == 256
        line.say(Submit(a_request("r2"), 1, []))
        await executor.begun.acquire()
        assert [row.request for row in executor.rows[1]] == ["r2"]


async def test_an_abort_of_an_older_attempt_changes_nothing() -> None:
    async with joined() as line:
        line.say(Submit(a_request(), 2, []), Abort(RequestId("r1"), 1))
        frames = await line.hear_end_of("r1")
    assert len(tokens_of(frames)) == 16
    assert frames[-1].ended[0].attempt == 2


async def test_a_newer_attempt_takes_the_place_of_an_older_one_while_it_runs() -> None:
    executor = SteppedExecutor()
    async with joined(executor=executor) as line:
        line.say(Submit(a_request(max_tokens=6), 1, []))
        await executor.begun.acquire()
        line.say(Submit(a_request(max_tokens=6), 2, [1, 2]), Ping(1000.0))
        await line.hear(Heartbeat, lambda beat: bool(beat.report.requests))
        for _ in range(10):
            executor.allowed.release()
        frames = await line.hear_end_of("r1")
    rows = [row for frame in frames for row in frame.rows]
    assert [row.start for row in rows if row.attempt == 2] == [2, 3, 4, 5]
    assert frames[-1].ended[0].attempt == 2


async def test_a_submit_shows_in_the_report_while_a_step_runs() -> None:
    """Otherwise the fleet would think it lost on the way."""
    executor = SteppedExecutor()
    async with joined(executor=executor) as line:
        line.say(Submit(a_request(), 1, []))
        await executor.begun.acquire()
        line.say(Submit(a_request("r2"), 3, []), Ping(1000.0))
        beat = await line.hear(Heartbeat, lambda beat: len(beat.report.requests) == 2)
        assert ("r2", 3) in beat.report.requests


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"prompt": 5000}, RefuseWhy.TOO_LONG),
        ({"max_tokens": 5000}, RefuseWhy.TOO_LONG),
    ],
)
async def test_what_never_fits_is_refused(changes: dict[str, int], why: RefuseWhy) -> None:
    prompt = changes.get("prompt", 8)
    async with joined() as line:
        request = a_request(prompt=prompt, max_tokens=changes.get("max_tokens", 4))
        line.say(Submit(request, 1, []))
        rejected = await line.hear(Rejected)
        assert (rejected.request, rejected.attempt, rejected.why) == ("r1", 1, why)


async def test_a_full_queue_refuses() -> None:
    executor = SteppedExecutor()
    async with joined(executor=executor, spec=a_spec(max_waiting=2, max_sequences=1)) as line:
        line.say(Submit(a_request("r0"), 1, []))
        await executor.begun.acquire()
        line.say(*(Submit(a_request(f"r{i}"), 1, []) for i in range(1, 4)))
        rejected = await line.hear(Rejected)
        assert (rejected.request, rejected.why) == ("r3", RefuseWhy.QUEUE_FULL)


async def test_a_prompt_outside_the_vocabulary_is_refused_and_harms_nobody() -> None:
    bad = msgspec.structs.replace(a_request("bad"), token_ids=[5] * 7 + [9999])
    short = msgspec.structs.replace(a_request("short"), token_ids=[5])
    async with joined() as line:
        line.say(Submit(bad, 1, []), Submit(short, 1, []), Submit(a_request(), 1, []))
        assert (await line.hear(Rejected)).request == "bad"
        assert (await line.hear(Rejected)).request == "short"
        assert len(tokens_of(await line.hear_end_of("r1"))) == 16


async def test_a_stop_string_ends_a_sequence_before_it_is_shown() -> None:
    whole = bytes(ByteWords().passage(1, 0, 200)).decode(errors="ignore")
    stop = whole[40:43]
    async with joined() as line:
        line.say(Submit(a_request(max_tokens=200, stop=(stop,)), 1, []))
        frames = await line.hear_end_of("r1")
    assert text_of(frames) == whole[: whole.index(stop)]
    assert frames[-1].ended[0].reason is FinishReason.STOP


async def test_text_held_back_for_a_stop_string_comes_with_the_last_token() -> None:
    whole = bytes(ByteWords().passage(1, 0, 60)).decode(errors="ignore")
    almost = whole[-3:] + "never"
    n_tokens = len(whole.encode())
    async with joined() as line:
        line.say(Submit(a_request(max_tokens=n_tokens, stop=(almost,)), 1, []))
        frames = await line.hear_end_of("r1")
    assert text_of(frames) == whole
    assert frames[-1].ended[0].reason is FinishReason.LENGTH


async def test_an_emulated_answer_ends_by_itself() -> None:
    async with joined() as line:
        line.say(Submit(a_request(max_tokens=1500, ignore_eos=False, seed=3), 1, []))
        frames = await line.hear_end_of("r1")
    tokens = tokens_of(frames)
    assert tokens[-1] == ByteWords.eos_token_id
    assert text_of(frames) == bytes(tokens[:-1]).decode(errors="replace")
    assert frames[-1].ended[0].reason is FinishReason.STOP


async def test_log_probabilities_come_with_every_token() -> None:
    async with joined() as line:
        line.say(Submit(a_request(logprobs=2), 1, []))
        frames = await line.hear_end_of("r1")
    for row in (row for frame in frames for row in frame.rows):
        assert row.logprobs is not None
        value, text, top = cast("tuple[float, str, list[tuple[str, float]]]", row.logprobs[0])
        assert value <= 0
        assert text == ByteWords().token_text(row.token_ids[0])
        assert len(top) == 2
        assert top[0][1] >= top[1][1]


async def test_heartbeats_come_on_the_gateways_clock() -> None:
    async with a_gateway() as gateway, running(a_worker(gateway.address)):
        line = await gateway.line()
        await line.welcome(heartbeat_s=0.01, gateway_time_s=5e6)
        beats = [await line.hear(Heartbeat) for _ in range(3)]
    times = [beat.report.as_of_s for beat in beats]
    assert times == sorted(times)
    assert 0 <= times[0] - 5e6 < 60


async def test_the_slowdown_compares_measured_with_predicted_steps() -> None:
    spec = a_spec(latency={"base_s": 1e-9})
    executor = Emulated(ByteWords().passage, None)
    async with joined(spec=spec, executor=executor) as line:
        line.say(Submit(a_request(max_tokens=50), 1, []))
        await line.hear_end_of("r1")
        line.say(Ping(1000.0))
        beat = await line.hear(Heartbeat)
    assert beat.report.slowdown > 10  # A nanosecond is more than this machine can keep.


async def test_a_worker_that_is_asked_tells_its_whole_cache_again() -> None:
    async with joined() as line:
        line.say(Submit(a_request(prompt=40, max_tokens=4), 1, []))
        await line.hear_end_of("r1")
        line.say(Ping(1000.0))
        told = await line.hear(Heartbeat, lambda beat: bool(beat.report.cache_events))
        line.say(Ping(1000.0, whole_cache=True))
        again = await line.hear(Heartbeat, lambda beat: beat.report.whole_cache)
    n_told = told.report.cache_events
    assert n_told == again.report.cache_events == len(again.report.stored) > 0


async def test_drain_finishes_what_is_inside_and_refuses_the_rest() -> None:
    async with a_gateway() as gateway:
        worker = a_worker(gateway.address)
        async with running(worker) as task:
            line = await gateway.line()
            await line.welcome()
            line.say(Submit(a_request(max_tokens=300), 1, []), Drain())
            line.say(Submit(a_request("r2"), 1, []))
            rejected = await line.hear(Rejected)
            assert (rejected.request, rejected.why) == ("r2", RefuseWhy.DRAINING)
            assert len(tokens_of(await line.hear_end_of("r1"))) == 300
            assert (await line.hear(Goodbye)).why == "drained"
            assert await asyncio.wait_for(task, PATIENCE_S) is None


async def test_one_that_is_told_to_stop_tells_the_gateway_at_once() -> None:
    executor = SteppedExecutor()
    async with a_gateway() as gateway:
        worker = a_worker(gateway.address, executor=executor)
        async with running(worker) as task:
            line = await gateway.line()
            await line.welcome(heartbeat_s=3600.0)
            line.say(Submit(a_request(max_tokens=2), 1, []))
            await executor.begun.acquire()
            worker.drain()
            told = await line.hear(Heartbeat, lambda beat: beat.leaving)
            assert told.report.running + told.report.waiting == 1
            for _ in range(2):
                executor.allowed.release()
            await line.hear_end_of("r1")
            assert (await line.hear(Goodbye)).why == "drained"
            assert await asyncio.wait_for(task, PATIENCE_S) is None


class LongWords(ByteWords):
    """Every token is 20 kB of log-probabilities."""

    def token_text(self, token_id: int) -> str:
        return "x" * 10_000


async def test_a_gateway_that_does_not_read_stops_the_steps() -> None:
    """The worker's memory is bounded: it waits, and goes on where it stood."""
    executor = SteppedExecutor()
    for _ in range(2000):
        executor.allowed.release()
    async with joined(executor=executor, words=LongWords()) as line:
        transport = cast(asyncio.ReadTransport, line.writer.transport)
        transport.pause_reading()
        line.say(Submit(a_request(max_tokens=1500, logprobs=1), 1, []))
        before = -1
        while not 0 < before == len(executor.rows):
            before = len(executor.rows)
            await asyncio.sleep(0.2)
        assert before < 1500
        transport.resume_reading()
        frames = await line.hear_end_of("r1")
    assert tokens_of(frames) == list(ByteWords().passage(1, 0, 1500))
