"""A worker around the real engine: the same promises as with an emulated one."""

from __future__ import annotations

import sys

import pytest

from fairlead.latency.coefficients import from_coefficients
from fairlead.latency.model import StepShape
from fairlead.model import ModelError, Request
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.start import build_worker
from fairlead.worker.wire import Abort, Frame, Heartbeat, Submit
from fairlead.worker.worker import Worker
from tests.worker.fakes import (
    FakeGateway,
    a_gateway,
    a_request,
    running,
    text_of,
    tokens_of,
)


def embedded(gateway: FakeGateway, hardware: str = "h100-llama-3.1-8b") -> Worker:
    """With a profile that is not its own, which spares us a second of measuring."""
    settings = WorkerSettings(
        join=str(gateway.address),
        model="fairlead-nano",
        hardware=hardware,
        threads=1,
        n_blocks=64,
        name="i0",
    )
    return build_worker(settings, "secret")


async def listen(request: Request, produced: list[int], most: int) -> list[Frame]:
    frames: list[Frame] = []
    async with a_gateway() as gateway, running(embedded(gateway)):
        line = await gateway.line()
        await line.welcome()
        line.say(Submit(request, 1, produced))
        while not (frames and frames[-1].ended) and len(frames) < most:
            frames.append(await line.hear(Frame))
        line.hang_up()
    return frames


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_an_answer_cut_in_the_middle_goes_on_as_if_nothing_had_happened(
    temperature: float,
) -> None:
    request = a_request(
        prompt=100, max_tokens=40, temperature=temperature, seed=5, stop=("zzz",), logprobs=1
    )
    whole = await listen(request, [], 1000)
    before = await listen(request, [], 13)
    after = await listen(request, tokens_of(before), 1000)
    assert tokens_of([*before, *after]) == tokens_of(whole)
    assert text_of([*before, *after]) == text_of(whole)
    assert len(tokens_of(whole)) == 40
    assert all(row.logprobs for frame in whole for row in frame.rows)


async def test_an_abort_gives_the_blocks_back_and_the_latency_is_measured() -> None:
    async with a_gateway() as gateway, running(embedded(gateway, "auto")):
        line = await gateway.line()
        hello = await line.welcome()
        assert hello.spec.hardware == "cpu"
        assert 0 < from_coefficients(hello.spec.latency).step_s(StepShape(1, 100, sampled=1)) < 1
        line.say(*(Submit(a_request(f"r{i}", max_tokens=120), 1, []) for i in range(3)))
        await line.hear(Frame)
        line.say(*(Abort(a_request(f"r{i}").id, 1) for i in range(3)))
        beat = await line.hear(Heartbeat, lambda beat: not beat.report.requests)
        assert beat.report.free_blocks + beat.report.cached_blocks == 64
        line.hang_up()


def test_without_torch_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fairlead.engine.engine", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match=r"pip install 'fairlead\[engine\]'"):
        build_worker(WorkerSettings(join="127.0.0.1:1", model="fairlead-nano"), "secret")
