"""Is the simulator right? The same fleet file and trace, live and simulated, side by side.

    python benchmarks/fidelity.py                 about eight minutes on a quiet machine
    python benchmarks/fidelity.py --repeats 3     more repeats of each live run
    python benchmarks/fidelity.py --out f.json    all figures as JSON

1. Live, real processes: what the fleet can hold (closed loop), then two training minutes at 60 and
   110 % of it, in which the worker logs the shape and the duration of every step. A latency profile
   is fitted to two thirds of the steps, and its error stated on the rest.
2. Live at 5 %: what is left of the time to first token beside the steps is what gateway, sockets
   and client cost. It is measured here, once, and not fitted to what follows.
3. 40, 80 and 120 % of capacity, with arrivals of their own: `fairlead replay` live and
   `fairlead simulate`, and their Summaries against each other.

A shared machine is noisy: every load is run several times, each time with other arrivals and other
prompts, live and simulated alike. The table shows means, and how far the differences of single runs
lie apart; a difference smaller than that is no finding.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fairlead.latency import FitError, Form, Point, Profile, measure_error
from fairlead.latency.fit import fit_linear, fit_thirteen, phase
from fairlead.latency.profile_text import format_profile
from fairlead.worker.step_log import read_step_log

HERE = Path(__file__).parent
FLEET = HERE / "fidelity.toml"
TRACE = "azure-conv-slice"
SCALE = 0.25
"""Prompts and answers a quarter as long: more requests a minute, and so steadier percentiles."""
LOADS = (0.4, 0.8, 1.2)
LEAST_POINTS = 300
BOUND, ATTAINMENT_BOUND = 0.05, 0.02
START_S = 120
Summary = Mapping[str, Any]
METRICS: tuple[tuple[str, Callable[[Summary], float]], ...] = (
    ("TTFT p50", lambda s: s["ttft_s"]["p50"]),
    ("TTFT p90", lambda s: s["ttft_s"]["p90"]),
    ("TPOT p50", lambda s: s["tpot_s"]["p50"]),
    ("TPOT p90", lambda s: s["tpot_s"]["p90"]),
    ("end to end p50", lambda s: s["e2e_s"]["p50"]),
    ("end to end p90", lambda s: s["e2e_s"]["p90"]),
)


def main() -> int:
    args = _arguments()
    console = Console(width=80)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.seconds)
        with bench.fleet():
            capacity = bench.capacity()
            print(f"capacity: {capacity:.2f} requests/s of {TRACE} at {SCALE} of its lengths")
            for i, load in enumerate((0.6, 1.1)):
                bench.live(load * capacity, seed=100 + i, warm=i == 0)
            low = [bench.live(0.05 * capacity, seed=200, limit=40)]
            # A seed for each run: prompts of an earlier one would still be in the prefix cache.
            seeds = {
                load: [1000 * i + r for r in range(args.repeats)] for i, load in enumerate(LOADS, 1)
            }
            runs = {
                load: [bench.live(load * capacity, seed=seed) for seed in seeds[load]]
                for load in LOADS
            }
        error = bench.fit()
        print(f"profile: {bench.form}, on steps not fitted: {_in_words(error)}")
        overhead_s = (
            low[0]["ttft_s"]["mean"]
            - bench.simulated(0.05 * capacity, seed=200, limit=40)["ttft_s"]["mean"]
        )
        bench.gateway_s = max(overhead_s, 0.0)
        print(f"gateway, sockets and client: {1e3 * overhead_s:.2f} ms before the first token")
        simulated = {
            load: [bench.simulated(load * capacity, seed=seed) for seed in seeds[load]]
            for load in LOADS
        }
    ok = True
    for load in LOADS:
        ok &= _print(console, load, load * capacity, runs[load], simulated[load])
    if args.out:
        found = {"capacity_rps": capacity, "profile_error": asdict(error), "live": runs}
        Path(args.out).write_text(json.dumps({**found, "simulated": simulated}, indent=1))
    return 0 if ok else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2, help="live runs of each load")
    parser.add_argument("--seconds", type=float, default=45.0, help="of each live run")
    parser.add_argument("--out", help="a JSON file for all figures")
    return parser.parse_args()


class Bench:
    """The live fleet and its simulated twin."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._steps = folder / "steps.csv"
        self._profile = folder / "profile.toml"
        self._port = _free_port()
        self._trained = 0
        self.form = ""
        self.gateway_s = 0.0

    @contextmanager
    def fleet(self) -> Iterator[None]:
        """`fairlead serve` until the end of the context."""
        command = [sys.executable, "-m", "fairlead", "serve", str(FLEET), "--quiet"]
        command += ["--set", f'gateway.listen="127.0.0.1:{self._port}"']
        command += ["--set", f'pool.0.step_log="{self._steps}"']
        process = subprocess.Popen(command)
        try:
            self._wait_until_ready(process)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)

    def capacity(self) -> float:
        """Requests a second that finish when there is always another one to send."""
        found = self._replay(["--concurrency", "32", "--duration", "15"])
        return float(found["requests"]["finished"] / found["duration_s"])

    def live(self, rate: float, *, seed: int, limit: int = 0, warm: bool = False) -> Summary:
        if warm:
            self._replay(["--rate", f"{rate:.4f}", "--limit", "10", "--seed", "99"])
        return self._replay(self._load(rate, seed, limit))

    def simulated(self, rate: float, *, seed: int, limit: int = 0) -> Summary:
        changes = {
            "pool.0.engine": '"emulated"',
            "pool.0.hardware": f'"{self._profile}"',
            "simulation.max_tokens": "0",
            "simulation.gateway_s": f"{self.gateway_s:.6f}",
        }
        words = ["simulate", TRACE, "--fleet", str(FLEET)]
        for key, value in changes.items():
            words += ["--set", f"{key}={value}"]
        return self._run([*words, *self._load(rate, seed, limit)])

    def fit(self) -> FitError:
        """Fits the profile to two thirds of the logged steps; its error on the others."""
        points = read_step_log(self._steps)
        fitted, held_out = _thinned([p for i, p in enumerate(points) if i % 3]), points[::3]
        forms: list[Form] = [fit_linear(fitted)]
        if {"decode", "prefill"} <= {phase(shape) for shape, _ in fitted}:
            forms.append(fit_thirteen(fitted))
        # The sum of all steps is what a simulation must get right, so long ones count for more.
        form = min(forms, key=lambda form: _total_error(form, held_out))
        self.form = f"{type(form).__name__}, {len(points):,} steps"
        error = measure_error(form, held_out)
        self._profile.write_text(format_profile(_profile(form, error)))
        return error

    def _load(self, rate: float, seed: int, limit: int) -> list[str]:
        n = limit or max(round(rate * self._seconds), 20)
        # Arrivals are drawn: the slice of the trace is short, and every seed has its own minute.
        return ["--rate", f"{rate:.4f}", "--arrivals", "poisson", "--limit", str(min(n, 400)),
                "--seed", str(seed)]  # fmt: skip

    def _replay(self, options: list[str]) -> Summary:
        return self._run(["replay", TRACE, "--url", f"http://127.0.0.1:{self._port}", *options])

    def _run(self, words: list[str]) -> Summary:
        out = self._folder / "summary.json"
        command = [sys.executable, "-m", "fairlead", *words, "--scale", str(SCALE)]
        subprocess.run([*command, "--quiet", "--out", str(out)], check=True)
        found: Summary = json.loads(out.read_text())
        return found

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{self._port}/metrics", timeout=5
                ) as answer:
                    if b"\nfairlead_instance_running{" in answer.read():
                        return
            except OSError:
                pass
            time.sleep(0.2)
        raise SystemExit("the fleet did not start")


def _thinned(points: list[Point]) -> list[Point]:
    """At most some thousands of steps, evenly taken from each phase: fits are slow, and most
    steps are alike."""
    kept: list[Point] = []
    for name in ("decode", "prefill", "mixed"):
        of_phase = [point for point in points if phase(point[0]) == name]
        kept += of_phase[:: max(len(of_phase) // 1500, 1)]
    if len(kept) < LEAST_POINTS:
        raise SystemExit(f"only {len(kept)} steps were logged; give --seconds more")
    return kept


def _total_error(form: Form, points: list[Point]) -> float:
    return sum(abs(form.step_s(shape) - seconds) for shape, seconds in points)


def _profile(form: Form, error: FitError) -> Profile:
    return Profile(
        name="live-steps",
        gpu="cpu",
        model="fairlead-nano",
        precision="float32",
        tensor_parallel=1,
        gpu_memory_bytes=1 << 34,
        weights_bytes=1 << 23,
        kv_bytes_per_token=1 << 12,
        max_context=4096,
        coefficients=form.coefficients(),
        added={},
        errors={"all": error},
        end_to_end=None,
        source="steps of a live worker, logged by benchmarks/fidelity.py",
        licence="",
        host_source="the worker's whole loop is in the steps",
    )


def _print(
    console: Console, load: float, rate: float, live: list[Summary], simulated: list[Summary]
) -> bool:
    """The table of one load; True where all bounds hold."""
    table = Table(title=f"{load:.0%} of capacity, {rate:.2f} requests/s", title_justify="left")
    for name in ("", "live", "simulated", "difference", "of single runs", "bound"):
        table.add_column(name, justify="left" if not name else "right")
    ok = True
    for name, get in METRICS:
        real, ours = [get(summary) for summary in live], [get(summary) for summary in simulated]
        singles = [b / a - 1 for a, b in zip(real, ours, strict=True)]
        difference = sum(ours) / sum(real) - 1
        held = abs(difference) <= BOUND
        ok &= held
        table.add_row(
            name,
            f"{1e3 * sum(real) / len(real):.1f} ms",
            f"{1e3 * sum(ours) / len(ours):.1f} ms",
            f"{difference:+.1%}",
            f"{min(singles):+.0%} to {max(singles):+.0%}",
            "held" if held else "MISSED",
        )
    real, ours = ([s["attainment"] for s in runs] for runs in (live, simulated))
    singles = [100 * (b - a) for a, b in zip(real, ours, strict=True)]
    difference = sum(singles) / len(singles)
    held = abs(difference) <= 100 * ATTAINMENT_BOUND
    table.add_row(
        "objectives met",
        f"{sum(real) / len(real):.1%}",
        f"{sum(ours) / len(ours):.1%}",
        f"{difference:+.1f} points",
        f"{min(singles):+.0f} to {max(singles):+.0f}",
        "held" if held else "MISSED",
    )
    console.print(table)
    return ok and held


def _in_words(error: FitError) -> str:
    return (
        f"mean {error.mean_abs_pct:.1f} %, P95 {error.p95_abs_pct:.1f} %, "
        f"bias {error.bias_pct:+.1f} %"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
