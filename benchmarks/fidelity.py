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
run several times, each time with other arrivals and other prompts, live and simulated alike. The
embedded table says what a user can expect of a prediction on this machine; the emulated one, what
the simulator itself gets wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fairlead.cli.served import served

HERE = Path(__file__).parent
FLEET = HERE / "fidelity.toml"
TRACE = "azure-conv-slice"
SCALE = 0.25
"""Prompts and answers a quarter as long: more requests a minute, and so steadier percentiles."""
LOADS = (0.4, 0.8, 1.2)
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
            *_tables("embedded", embedded, bench.simulate),
            *_tables("emulated", emulated, bench.simulate),
        ]
    console = Console(width=80)
    for table, _, _ in tables:
        console.print(table)
    if args.out:
        figures = {str(table.title): rows for table, rows, _ in tables}
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
    """A live run: how it was asked for, and what came out."""

    options: list[str]
    summary: Summary


Runs = Mapping[float, Sequence[Run]]
"""By load."""


class Live:
    """A fleet that is up."""

    def __init__(self, bench: Bench, url: str) -> None:
        self._bench = bench
        self._url = url

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
        return Run(options, self._replay(options))

    def _replay(self, options: list[str]) -> Summary:
        return self._bench.fairlead("replay", TRACE, "--url", self._url, *options)


class Bench:
    """What is measured once, and the simulated twin of each live run."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.seconds = seconds
        self.profile = folder / "calibrated.toml"
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
        with served(FLEET, changes) as url:
            yield Live(self, url)

    def simulate(self, run: Run) -> Summary:
        """The same, from the calibration alone."""
        words = ["--fleet", str(FLEET), "--set", f'pool.0.hardware="{self.profile}"', *self._beside]
        words += ["--set", "pool.0.engine=emulated", "--set", "simulation.max_tokens=0"]
        return self.fairlead("simulate", TRACE, *words, *run.options)

    def fairlead(self, *words: str) -> Summary:
        _run([*words, "--scale", str(SCALE), "--quiet", "--out", str(self._out)])
        found: Summary = json.loads(self._out.read_text())
        return found


def _run(words: Sequence[str]) -> str:
    command = [sys.executable, "-m", "fairlead", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _tables(
    engine: str, runs: Runs, simulate: Callable[[Run], Summary]
) -> Iterator[tuple[Table, dict[str, Any], bool]]:
    """A table for each load, its figures, and whether the simulation keeps within the bounds."""
    for load, of_load in runs.items():
        live = [run.summary for run in of_load]
        simulated = [simulate(run) for run in of_load]
        rows = {name: Row.of(get, live, simulated) for name, get in METRICS}
        rows["met"] = Row.of(lambda s: s["attainment"], live, simulated, is_share=True)
        table = Table(title=f"{engine}, {load:.0%} of capacity", title_justify="left")
        for name in ("", "live", "± runs", "simulated", "off"):
            table.add_column(name, justify="right" if table.columns else "left")
        for name, row in rows.items():
            table.add_row(name, *row.cells())
        figures = {name: asdict(row) for name, row in rows.items()}
        yield table, figures, all(row.held for row in rows.values())


@dataclass
class Row:
    """One figure, live and simulated: means over the runs."""

    live: float
    spread: float
    """Half the distance between the least and the greatest live run."""
    simulated: float
    is_share: bool

    @classmethod
    def of(
        cls,
        get: Callable[[Summary], float],
        live: Sequence[Summary],
        simulated: Sequence[Summary],
        *,
        is_share: bool = False,
    ) -> Row:
        values = [get(summary) for summary in live]
        spread = (max(values) - min(values)) / 2
        return cls(_mean(values), spread, _mean([get(s) for s in simulated]), is_share)

    @property
    def off(self) -> float:
        """Relative for times, absolute for shares."""
        return self.simulated - self.live if self.is_share else self.simulated / self.live - 1

    @property
    def held(self) -> bool:
        return abs(self.off) <= (ATTAINMENT_BOUND if self.is_share else BOUND)

    def cells(self) -> Iterator[str]:
        spread = self.spread if self.is_share else self.spread / self.live
        unit = "" if self.is_share else "%"
        yield self._text(self.live)
        yield f"{100 * spread:.1f}{unit}"
        yield self._text(self.simulated)
        yield f"{100 * self.off:+.1f}{unit}{'' if self.held else ' !'}"

    def _text(self, value: float) -> str:
        return f"{value:.1%}" if self.is_share else f"{1e3 * value:.1f} ms"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
