"""Is the simulator right? The same fleet file and trace, live and simulated, side by side.

    python benchmarks/fidelity.py                 about eight minutes on a quiet machine
    python benchmarks/fidelity.py --repeats 3     more repeats of each live run
    python benchmarks/fidelity.py --out f.json    all figures as JSON

1. `fairlead calibrate` measures a worker: its latency profile, and what gateway, sockets and client
   cost beside the steps. Nothing is fitted to what follows.
2. What the fleet can hold (closed loop); then 40, 80 and 120 % of it, with arrivals of their own:
   `fairlead replay` live and `fairlead simulate`, and their Summaries against each other.
3. The same with emulated engines, live in real processes as well, that take exactly as long for a
   step as the profile says: there a difference can only come from everything around the steps.

A shared machine is noisy, and its speed drifts by tens of per cent within minutes. So every load is
run several times, each time with other arrivals and other prompts, live and simulated alike, and
each run of the embedded engine is simulated twice: as predicted from the calibration, and with a
profile fitted to the steps that the worker logged in that very run. The first says what a user can
expect of a prediction on this machine; the second, what the simulator itself gets wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fairlead.cli.served import served
from fairlead.latency import FitError, Form, Point, Profile, from_coefficients, measure_error
from fairlead.latency.fit import fit_linear, fit_thirteen, phase
from fairlead.latency.profile_text import format_profile
from fairlead.worker.start import faster
from fairlead.worker.step_log import StepTail

HERE = Path(__file__).parent
FLEET = HERE / "fidelity.toml"
TRACE = "azure-conv-slice"
SCALE = 0.25
"""Prompts and answers a quarter as long: more requests a minute, and so steadier percentiles."""
LOADS = (0.4, 0.8, 1.2)
LEAST_POINTS = 300
BOUND, ATTAINMENT_BOUND = 0.05, 0.02
Summary = Mapping[str, Any]
METRICS: tuple[tuple[str, Callable[[Summary], float]], ...] = (
    ("TTFT p50", lambda s: s["ttft_s"]["p50"]),
    ("TTFT p90", lambda s: s["ttft_s"]["p90"]),
    ("TPOT p50", lambda s: s["tpot_s"]["p50"]),
    ("TPOT p90", lambda s: s["tpot_s"]["p90"]),
    ("e2e p50", lambda s: s["e2e_s"]["p50"]),
    ("e2e p90", lambda s: s["e2e_s"]["p90"]),
)


def main() -> int:
    args = _arguments()
    print(f"parameters: {vars(args)}, {TRACE} at {SCALE} of its lengths, {FLEET.name}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.seconds)
        bench.calibrate()
        with bench.fleet() as live:
            capacity = live.capacity()
            embedded = live.runs(capacity, args.repeats)
        with bench.fleet(f'pool.0.hardware="{bench.profile}"', "pool.0.engine=emulated") as live:
            emulated = live.runs(capacity, args.repeats)
        print(f"capacity: {capacity:.2f} requests/s")
        tables = [
            *_tables("embedded", embedded, {"predicted": bench.predict, "own steps": bench.follow}),
            *_tables("emulated", emulated, {"predicted": bench.predict}),
        ]
    console = Console(width=80)
    for table, _, _ in tables:
        console.print(table)
    if args.out:
        figures = [{"title": str(table.title), **rows} for table, rows, _ in tables]
        Path(args.out).write_text(json.dumps({"capacity_rps": capacity, "tables": figures}))
    return 0 if all(held for _, _, held in tables) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=2, help="live runs of each load")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each live run")
    parser.add_argument("--out", help="a JSON file for all figures")
    return parser.parse_args()


@dataclass
class Run:
    """A live run: how it was asked for, what came out, and the steps of its worker."""

    options: list[str]
    live: Summary
    steps: list[Point]


Runs = Mapping[float, Sequence[Run]]
"""By load."""


class Live:
    """A fleet that is up."""

    def __init__(self, bench: Bench, url: str) -> None:
        self._bench = bench
        self._url = url
        self._steps = StepTail(bench.steps)

    def capacity(self) -> float:
        """Requests a second that finish when there is always another one to send."""
        found = self._replay(["--concurrency", "32", "--duration", "15"])
        return float(found["requests"]["finished"] / found["duration_s"])

    def runs(self, capacity: float, repeats: int) -> Runs:
        # A seed for each run: prompts of an earlier one would still be in the prefix cache.
        return {
            load: [self._run(load * capacity, 1000 * i + repeat) for repeat in range(repeats)]
            for i, load in enumerate(LOADS, 1)
        }

    def _run(self, rate: float, seed: int) -> Run:
        n = min(max(round(rate * self._bench.seconds), 20), 800)
        # Arrivals are drawn: the slice of the trace is short, and every seed has its own minute.
        options = ["--rate", f"{rate:.4f}", "--arrivals", "poisson", "--limit", str(n)]
        options += ["--seed", str(seed)]
        self._steps.new()
        return Run(options, self._replay(options), self._steps.new())

    def _replay(self, options: list[str]) -> Summary:
        return self._bench.fairlead("replay", TRACE, "--url", self._url, *options)


class Bench:
    """What is measured once, and the simulated twin of each live run."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.seconds = seconds
        self.steps = folder / "steps.csv"
        self.profile = folder / "calibrated.toml"
        self._own_profile = folder / "own.toml"
        self._out = folder / "summary.json"
        self._beside: list[str] = []

    def calibrate(self) -> None:
        words = ["calibrate", "--worker", str(FLEET), "--out", str(self.profile)]
        said = _run([*words, "--seconds", "60"])
        print(said, end="", flush=True)
        (line,) = (line for line in said.split("\n") if line.startswith("[simulation]"))
        for setting in line.removeprefix("[simulation] ").split(", "):
            self._beside += ["--set", f"simulation.{setting.replace(' ', '')}"]

    @contextmanager
    def fleet(self, *changes: str) -> Iterator[Live]:
        with served(FLEET, (*changes, f'pool.0.step_log="{self.steps}"')) as url:
            yield Live(self, url)

    def predict(self, run: Run) -> Summary:
        """From the calibration alone."""
        return self._simulate(run, self.profile)

    def follow(self, run: Run) -> Summary:
        """With steps as long as they were in that run."""
        form = _fit(run.steps)
        text = format_profile(_profile(form, measure_error(form, run.steps)))
        self._own_profile.write_text(text)
        return self._simulate(run, self._own_profile)

    def _simulate(self, run: Run, profile: Path) -> Summary:
        words = ["--fleet", str(FLEET), "--set", f'pool.0.hardware="{profile}"', *self._beside]
        words += ["--set", "pool.0.engine=emulated", "--set", "simulation.max_tokens=0"]
        return self.fairlead("simulate", TRACE, *words, *run.options)

    def fairlead(self, *words: str) -> Summary:
        _run([*words, "--scale", str(SCALE), "--quiet", "--out", str(self._out)])
        found: Summary = json.loads(self._out.read_text())
        return found


def _run(words: Sequence[str]) -> str:
    command = [sys.executable, "-m", "fairlead", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _fit(points: list[Point]) -> Form:
    """Fitted to two thirds of the steps, chosen by the others."""
    fitted, held_out = [p for i, p in enumerate(points) if i % 3], points[::3]
    thin = _thinned(fitted)
    forms: list[Form] = [fit_linear(thin)]
    if {"decode", "prefill"} <= {phase(shape) for shape, _ in thin}:
        forms.append(fit_thirteen(thin))
    # Robust fits tell the usual step; what a simulation must get right is the sum of all, in
    # which now and then the machine was busy with something else.
    forms = [_scaled(form, _slowdown(form, fitted)) for form in forms]
    return min(forms, key=lambda form: _total_error(form, held_out))


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


def _scaled(form: Form, slowdown: float) -> Form:
    return from_coefficients(faster(form.coefficients(), 1 / slowdown))


def _slowdown(form: Form, points: list[Point]) -> float:
    return sum(seconds for _, seconds in points) / sum(form.step_s(shape) for shape, _ in points)


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


def _tables(
    engine: str, runs: Runs, simulated: Mapping[str, Callable[[Run], Summary]]
) -> Iterator[tuple[Table, dict[str, Any], bool]]:
    """A table for each load, its figures, and whether the last kind of simulation keeps within
    the bounds."""
    for load, of_load in runs.items():
        live = [run.live for run in of_load]
        found = {name: [simulate(run) for run in of_load] for name, simulate in simulated.items()}
        rows = {name: _compare(get, live, found) for name, get in METRICS}
        rows["met"] = _compare(lambda s: s["attainment"], live, found, is_share=True)
        table = Table(title=f"{engine}, {load:.0%} of capacity", title_justify="left")
        for name in ("", "live", "± runs", *(x for kind in found for x in (kind, ""))):
            table.add_column(name, justify="right" if table.columns else "left")
        for name, row in rows.items():
            table.add_row(name, *row.cells())
        yield table, {name: vars(row) for name, row in rows.items()}, _last_held(rows)


def _last_held(rows: Mapping[str, Row]) -> bool:
    return all(row.held(list(row.simulated)[-1]) for row in rows.values())


@dataclass
class Row:
    """One figure, live and simulated: means over the runs."""

    live: float
    spread: float
    """Half the distance between the least and the greatest run."""
    is_share: bool
    simulated: dict[str, float] = field(default_factory=dict)

    def off(self, kind: str) -> float:
        """Relative for times, absolute for shares."""
        simulated = self.simulated[kind]
        return simulated - self.live if self.is_share else simulated / self.live - 1

    def held(self, kind: str) -> bool:
        return abs(self.off(kind)) <= (ATTAINMENT_BOUND if self.is_share else BOUND)

    def cells(self) -> Iterator[str]:
        yield self._text(self.live)
        yield f"{100 * self.spread:.1f}" if self.is_share else f"{self.spread / self.live:.0%}"
        for kind, value in self.simulated.items():
            yield self._text(value)
            off = 100 * self.off(kind)
            yield f"{off:+.1f}{'' if self.is_share else '%'}{'' if self.held(kind) else ' !'}"

    def _text(self, value: float) -> str:
        return f"{value:.1%}" if self.is_share else f"{1e3 * value:.1f} ms"


def _compare(
    get: Callable[[Summary], float],
    live: Sequence[Summary],
    found: Mapping[str, Sequence[Summary]],
    *,
    is_share: bool = False,
) -> Row:
    values = [get(summary) for summary in live]
    row = Row(_mean(values), (max(values) - min(values)) / 2, is_share)
    for kind, summaries in found.items():
        row.simulated[kind] = _mean([get(summary) for summary in summaries])
    return row


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
