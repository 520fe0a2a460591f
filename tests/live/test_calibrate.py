"""`fairlead calibrate` on real processes: emulated engines, whose steps are known beforehand."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairlead.cli.main import main
from fairlead.latency import StepShape, load_profile
from tests.live.conftest import LiveFleet

POOL = """
[[pool]]
name = "a"
model = "llama-3.1-8b"
engine = "emulated"
hardware = "h100-llama-3.1-8b"
speed = 0.25
max_sequences = 16
max_context = 4096

[objectives.interactive]
ttft_s = 5.0
tpot_s = 1.0
"""
SPEED = 0.25
"""Steps of tens of milliseconds: long beside what a busy machine adds to them."""
NAP_S, LATE_S = 0.005, 0.002


@contextlib.contextmanager
def where_time_is_kept() -> Iterator[None]:
    """A failure counts only on a machine that wakes who sleeps: where others have taken its
    processor, what the clock measures is them."""
    late_s: list[float] = []
    over = threading.Event()

    def nap() -> None:
        while not over.is_set():
            lay_down_s = time.monotonic()
            time.sleep(NAP_S)
            late_s.append(time.monotonic() - lay_down_s - NAP_S)

    napping = threading.Thread(target=nap)
    napping.start()
    try:
        yield
    except (AssertionError, subprocess.CalledProcessError) as error:
        mean_s = sum(late_s) / len(late_s)
        if mean_s > LATE_S:
            pytest.skip(f"who sleeps here is woken {mean_s * 1e3:.0f} ms late: {error}")
        raise
    finally:
        over.set()
        napping.join()


def calibrate(*words: str, seconds: int) -> str:
    command = [sys.executable, "-m", "fairlead", "calibrate", *words, "--seconds", str(seconds)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def held_against_the_truth(path: Path) -> None:
    truth = load_profile("h100-llama-3.1-8b").latency_model()
    found = load_profile(path).latency_model()
    for shape in (
        StepShape(8, 8 * 1000, 0, 0.0, 1000, 8),
        StepShape(0, 0, 2000, 2000 * 1000.0, 2000, 1),
    ):
        # A wide margin: what is tested is that the right thing is measured, not this machine,
        # which makes steps longer when it is busy and never shorter. A unit gone wrong,
        # or the speed, is outside it.
        assert 0.7 < found.step_s(shape) / (truth.step_s(shape) / SPEED) < 2.5


def test_a_worker_tells_of_its_steps(tmp_path: Path) -> None:
    fleet, out = tmp_path / "fleet.toml", tmp_path / "p.toml"
    fleet.write_text(POOL)
    with where_time_is_kept():
        said = calibrate("--worker", str(fleet), "--out", str(out), seconds=12)
        assert "on points not fitted" in " ".join(said.split())
        assert "gateway_s = " in said
        held_against_the_truth(out)
        assert set(load_profile(out).errors) >= {"all", "decode", "prefill"}


def test_a_server_is_inferred_from_its_tokens(
    serve: Callable[[str], LiveFleet], tmp_path: Path
) -> None:
    fleet, out = serve(POOL), tmp_path / "p.toml"
    fleet.wait_for_instances(1)
    # A worker tells of each step, a stream of one shape a second: the same takes twice as long.
    with where_time_is_kept():
        calibrate("--url", fleet.url, "--out", str(out), "--max-sequences", "16", seconds=24)
        held_against_the_truth(out)
        assert "guess" in load_profile(out).note


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--url", "http://127.0.0.1:9"], "nobody answers"),
        (["--worker", "missing.toml"], "does not exist"),
        (["--url", "x", "--set", "pool.0.speed=2"], "--worker"),
        (["--url", "x", "--seconds", "0"], "seconds"),
    ],
)
def test_mistakes_are_named(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *words, "--out", str(tmp_path / "p.toml")]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
