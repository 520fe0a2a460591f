"""The small parts of a worker: clocks, pace, the emulated engine, measuring, settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from collections.abc import Sequence as Seq

import pytest

from fairlead.cli import worker as cli
from fairlead.instance.pace import Slowdown
from fairlead.instance.sequence import Sequence
from fairlead.latency.coefficients import from_coefficients
from fairlead.latency.fit import fit_linear
from fairlead.latency.model import StepShape
from fairlead.latency.profile_file import load_profile
from fairlead.model import ConfigError, FinishReason, RequestId, Row, RowKind
from fairlead.worker import emulated as emulated_module
from fairlead.worker.clock import GatewayClock
from fairlead.worker.emulated import Emulated, ends_at
from fairlead.worker.local import Processes
from fairlead.worker.measure import NEEDED_SHAPES, SHAPES, measure
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.start import faster
from fairlead.worker.words import tokenizer_for
from tests.worker.fakes import ByteWords, a_request


class ManualTime:
    """A clock that a test turns, and that sleeping turns."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


# ---------------------------------------------------------------- clock and pace


def test_the_reading_that_travelled_least_sets_the_gateways_clock() -> None:
    time = ManualTime()
    clock = GatewayClock(time)
    clock.restart(1000.0 - 0.5)  # Half a second on the way.
    time.now_s += 1
    clock.hear(1001.0 - 0.001)
    time.now_s += 1
    clock.hear(1002.0 - 0.9)
    assert clock.gateways(102.0) == pytest.approx(1002.0 - 0.001)
    assert clock.ours(clock.gateways(7.0)) == pytest.approx(7.0)


def test_a_new_gateway_has_a_new_clock() -> None:
    time = ManualTime()
    clock = GatewayClock(time)
    clock.restart(5000.0)
    clock.restart(3.0)
    assert clock.gateways(time.now_s) == 3.0


def test_slowdown_is_one_until_something_was_measured() -> None:
    slowdown = Slowdown()
    slowdown.add(1.0, 0.0)
    assert slowdown.ratio == 1.0


def test_slowdown_forgets() -> None:
    slowdown = Slowdown()
    for _ in range(100):
        slowdown.add(0.4, 0.1)
    assert slowdown.ratio == pytest.approx(4.0)
    for _ in range(500):
        slowdown.add(0.1, 0.1)
    assert slowdown.ratio == pytest.approx(1.0, abs=0.01)


def test_one_tiny_step_does_not_upset_the_slowdown() -> None:
    slowdown = Slowdown()
    for _ in range(10):
        slowdown.add(0.1, 0.1)
    slowdown.add(0.001, 0.00001)
    assert slowdown.ratio == pytest.approx(1.0, abs=0.01)


# ---------------------------------------------------------------- the emulated engine


def decoding(**sampling: object) -> tuple[list[Row], dict[RequestId, Sequence]]:
    sequence = Sequence(a_request(max_tokens=500, **sampling), 1, (), 0)  # type: ignore[arg-type]
    return [Row(sequence.id, RowKind.DECODE, 8, 1, True)], {sequence.id: sequence}


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> ManualTime:
    time = ManualTime()
    monkeypatch.setattr("fairlead.worker.emulated.asyncio.sleep", time.sleep)
    return time


def an_engine(time: ManualTime) -> Emulated:
    return Emulated(ByteWords().passage, ByteWords.eos_token_id, time)


async def test_late_wake_ups_do_not_add_up(time: ManualTime) -> None:
    engine, (rows, sequences) = an_engine(time), decoding()
    for _ in range(100):
        await engine.run(rows, sequences, 0.01)
        time.now_s += 0.002  # The timer was late, and the worker had things to do.
    assert time.now_s == pytest.approx(100 + 100 * 0.01 + 0.002)


async def test_after_a_rest_the_schedule_starts_anew(time: ManualTime) -> None:
    engine, (rows, sequences) = an_engine(time), decoding()
    await engine.run(rows, sequences, 0.01)
    engine.rest()
    time.now_s += 0.1
    await engine.run(rows, sequences, 0.01)
    assert time.now_s == pytest.approx(100 + 0.01 + 0.1 + 0.01)


async def test_what_was_lost_is_caught_up_with_by_shorter_steps(time: ManualTime) -> None:
    engine, (rows, sequences) = an_engine(time), decoding()
    await engine.run(rows, sequences, 0.01)
    time.now_s += 0.05  # The machine stood still for five steps.
    spans = []
    for _ in range(20):
        begun_s = time.now_s
        await engine.run(rows, sequences, 0.01)
        spans.append(time.now_s - begun_s)
    assert spans == pytest.approx([0.005] * 10 + [0.01] * 10)


async def test_a_machine_that_cannot_keep_the_pace_does_not_build_up_a_burst(
    time: ManualTime,
) -> None:
    engine, (rows, sequences) = an_engine(time), decoding()
    await engine.run(rows, sequences, 0.01)
    begun_s = time.now_s = time.now_s + 100.0
    for _ in range(200):
        await engine.run(rows, sequences, 0.01)
    assert time.now_s - begun_s >= 200 * 0.01 - emulated_module.CATCH_UP_S - 0.01


async def test_only_rows_at_the_end_of_what_is_known_bring_a_token(time: ManualTime) -> None:
    rows, sequences = decoding()
    chunk = Row(rows[0].request, RowKind.PREFILL, 0, 4, False)
    assert (await an_engine(time).run([chunk], sequences, 0.0)).tokens == {}


async def test_a_stop_token_counts_only_after_min_tokens(time: ManualTime) -> None:
    said = ByteWords().passage(1, 0, 100)
    stop_ids = tuple(set(said))
    engine = an_engine(time)
    rows, sequences = decoding(stop_token_ids=stop_ids, min_tokens=3)
    (sequence,) = sequences.values()
    ends = []
    for position in range(4):
        sequence.n_known = sequence.prompt_tokens + position
        ends.append((await engine.run(rows, sequences, 0.0)).stopped.get(sequence.id))
    assert ends == [None, None, None, FinishReason.STOP]


def test_emulated_answers_have_plausible_lengths() -> None:
    lengths = []
    for seed in range(400):
        (sequence,) = decoding(ignore_eos=False, seed=seed)[1].values()
        lengths.append(ends_at(sequence))
    lengths.sort()
    assert 80 < lengths[200] < 160
    assert 250 < lengths[360] < 550
    assert lengths[0] >= 1


def test_an_emulated_answer_is_longer_than_min_tokens() -> None:
    for seed in range(50):
        (sequence,) = decoding(ignore_eos=False, min_tokens=300, seed=seed)[1].values()
        assert ends_at(sequence) > 300


def test_a_faster_engine_is_faster_in_every_step() -> None:
    coefficients = load_profile("h100-llama-3.1-8b").coefficients
    slow, fast = from_coefficients(coefficients), from_coefficients(faster(coefficients, 4.0))
    for shape in (StepShape(8, 9000, sampled=8), StepShape(3, 500, 700, 9e5, 900, 4)):
        assert fast.step_s(shape) == pytest.approx(slow.step_s(shape) / 4)


def test_an_emulated_model_needs_no_files() -> None:
    assert tokenizer_for("meta-llama/Llama-3.1-8B-Instruct", "emulated").vocab_size > 255


# ---------------------------------------------------------------- measuring


class LinearEngine:
    """Takes exactly the time that its coefficients say."""

    def __init__(self, time: ManualTime, **coefficients: float) -> None:
        self._time = time
        self._latency = from_coefficients(coefficients)
        self.forgotten: set[RequestId] = set()
        self.highest_block = 0

    def run(self, rows: Seq[Row], sequences: Mapping[RequestId, Sequence]) -> object:
        held = [block for s in sequences.values() for block in s.blocks]
        assert len(held) == len(set(held)), "sequences must not share blocks"
        for row in rows:
            assert len(sequences[row.request].blocks) * 16 >= row.start + row.n
        self.highest_block = max(self.highest_block, *held)
        self._time.now_s += self._latency.step_s(StepShape.of(rows))
        return None

    def forget(self, request_id: RequestId) -> None:
        self.forgotten.add(request_id)


def test_measuring_finds_the_engines_own_latency() -> None:
    time = ManualTime()
    truth = {
        "base_s": 1e-3,
        "gemm_s_per_token": 2e-5,
        "decode_s_per_sequence": 3e-5,
        "decode_s_per_context_token": 1e-7,
        "prefill_s_per_pair": 1e-8,
    }
    engine = LinearEngine(time, **truth)
    points = measure(engine, n_blocks=1000, block_tokens=16, max_context=4096, clock=time)
    assert len(points) == len(SHAPES)
    assert fit_linear(points).coefficients() == pytest.approx(truth, rel=1e-3)
    assert engine.forgotten


def test_measuring_a_slow_engine_stops_early() -> None:
    time = ManualTime()
    engine = LinearEngine(time, base_s=0.5)
    points = measure(engine, n_blocks=1000, block_tokens=16, max_context=4096, clock=time)
    assert len(points) == NEEDED_SHAPES


def test_measuring_stays_within_memory_and_context() -> None:
    time = ManualTime()
    engine = LinearEngine(time, base_s=1e-3)
    points = measure(engine, n_blocks=6, block_tokens=16, max_context=64, clock=time)
    assert points
    assert engine.highest_block < 6
    assert max(shape.longest for shape, _ in points) < 64


# ---------------------------------------------------------------- settings


def parsed(*arguments: str) -> WorkerSettings:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    return cli._settings(parser.parse_args(["worker", *arguments]))


def test_settings_survive_the_command_line() -> None:
    settings = WorkerSettings(
        join="127.0.0.1:8001",
        model="-odd name",
        engine="emulated",
        hardware="h100-llama-3.1-8b",
        name="i3",
        pool="chat",
        role="decode",
        batching="sarathi",
        batching_params={"a": [1, "x y"]},
        seed=7,
        threads=2,
        dtype="float32",
        device="cpu",
        block_tokens=32,
        n_blocks=99,
        kv_bytes=12345,
        max_sequences=17,
        max_waiting=18,
        max_context=4096,
        speed=2.5,
    )
    assert parsed(*settings.arguments()) == settings


def test_defaults_survive_the_command_line() -> None:
    settings = WorkerSettings(join="127.0.0.1:8001", model="m")
    assert parsed("--join", "127.0.0.1:8001", "--model", "m") == settings
    assert parsed(*settings.arguments()) == settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "gguf"}, "engine must be one of embedded, emulated, vllm, openai"),
        ({"engine": "vllm", "device": "cuda"}, "device is for embedded engines"),
        ({"engine_args": {"enforce_eager": True}}, "engine_args are for vllm engines"),
        (
            {"engine": "vllm", "engine_args": {"block_size": 16, "scheduler_cls": "x"}},
            "engine_args.block_size is for block_tokens to say; engine_args.scheduler_cls cannot",
        ),
        ({"engine": "openai"}, "needs the url of its server"),
        ({"url": "http://a"}, "url is for openai engines"),
        ({"engine": "embeded"}, "engine must be one of embedded, emulated"),
        ({"engine": "emulated"}, "needs the name of a latency profile"),
        ({"role": "both"}, "role must be one of mixed, prefill, decode"),
        ({"speed": 0.0}, "speed must be positive"),
        ({"threads": 0, "n_blocks": -1}, "threads must be at least 1, got 0; n_blocks must"),
        ({"join": "8001"}, "expected HOST:PORT"),
        ({"model": ""}, "model must not be empty"),
    ],
)
def test_impossible_settings_are_told_together(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WorkerSettings(**{"join": "h:1", "model": "m", **changes})  # type: ignore[arg-type]


def test_a_token_never_stands_on_the_command_line() -> None:
    settings = WorkerSettings(join="h:1", model="m")
    launcher = Processes("hush-hush")
    assert "hush-hush" not in " ".join([*launcher._command, *settings.arguments()])
