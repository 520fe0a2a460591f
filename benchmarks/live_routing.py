"""Do routing policies come out live in the order in which they are simulated? Four embedded engines
in processes of their own, and prompts that share beginnings.

    python benchmarks/live_routing.py                 about three minutes
    python benchmarks/live_routing.py --requests 1000 --streams 4
    python benchmarks/live_routing.py --quick         half a minute: a short run, no calibration
    python benchmarks/live_routing.py --out f.json    all figures as JSON

Every prompt begins with one of a few system prompts, whose popularity follows Zipf's law and which
together are more than one instance's KV memory holds. So a policy that spreads them over all
instances finds less in the caches than one that keeps each prefix to a few, and computes the
difference.

The same requests are sent live and simulated, by so many clients who each ask again when they are
answered; so the fleet is as loaded on a slow or a busy machine as on another. The simulation goes
by a latency profile that `fairlead calibrate` measures first; with --quick by one that is merely
plausible, and by which the live fleet predicts as well. Policies are compared by the share of
prompt tokens found in a cache. Times are shown as well: a simulated instance has a core of its
own, and live ones share those that there are.

The workers stay, and each policy gets a gateway of its own, to which they dial again, and prompts
of its own, so that nothing of the run before is found in a cache.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from fairlead.cli.fleet_file import read_fleet_file
from fairlead.cli.main import main as fairlead
from fairlead.cli.served import free_port, served
from fairlead.planner.source import TraceSource
from fairlead.simulate import simulate
from fairlead.workload.row import TraceRow
from fairlead.workload.shape import Shape

POLICIES = ("round-robin", "dualmap", "prefix-load")
CLEAR = 0.12
"""A smaller difference between shares of cached tokens is a tie: on a busy machine, live runs of a
few hundred requests differ by half of this from each other."""
N_INSTANCES = 4
BLOCK_TOKENS = 16
N_PREFIXES, PREFIX_BLOCKS = 16, 20
"""System prompts of 320 tokens: 320 blocks in all."""
N_BLOCKS = 160
"""Of each instance: half of the system prompts."""
OWN_TOKENS, OUTPUT_TOKENS = (16, 64), (4, 10)
FLEET = f"""
[gateway]
tick_s = 0.2

[[pool]]
model = "fairlead-nano"
engine = "embedded"
instances = 0
threads = 1
n_blocks = {N_BLOCKS}
block_tokens = {BLOCK_TOKENS}
max_context = 1024
max_sequences = 8

[policy]
admission = "always"
batching = "fcfs"
rescheduling = "none"

[objectives.interactive]
ttft_s = 5.0

[simulation]
max_tokens = 0
"""
PARAMS = {"dualmap": (f"policy.params.routing.level_blocks={PREFIX_BLOCKS // 2}",)}
"""DualMap tells prefixes apart from two levels on: here the length of a system prompt."""
PLAUSIBLE = """
name = "plausible"
gpu = "one CPU core"
model = "fairlead-nano"
precision = "bf16"
tensor_parallel = 1
gpu_memory_bytes = 2000000000
weights_bytes = 10000000
kv_bytes_per_token = 1024
max_context = 1024
source = "a guess"
licence = "none needed"
host_source = "none"

[coefficients]
base_s = 0.005
gemm_s_per_token = 1e-4
decode_s_per_sequence = 2e-4
"""
START_S = 120.0


def main() -> int:
    args = _arguments()
    print(
        f"{N_INSTANCES} instances of {N_BLOCKS} blocks; {N_PREFIXES} prefixes of {PREFIX_BLOCKS} "
        f"blocks; {args.requests} requests of {args.streams} clients, seed {args.seed}"
    )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args)
        with bench.workers():
            live = [bench.play(policy, lap) for lap, policy in enumerate(POLICIES)]
        simulated = [bench.simulate(policy) for policy in POLICIES]
    found = {"live": dict(zip(POLICIES, live, strict=True))}
    found["simulated"] = dict(zip(POLICIES, simulated, strict=True))
    Console(width=80).print(_table(found))
    places = {way: _places(figures) for way, figures in found.items()}
    for way, of_policies in places.items():
        order = sorted(POLICIES, key=lambda policy: of_policies[policy])
        print(f"{way}: " + ", ".join(f"{of_policies[name]}. {name}" for name in order))
    if args.out:
        runs = {way: {k: asdict(v) for k, v in runs.items()} for way, runs in found.items()}
        args.out.write_text(json.dumps({"places": places, **runs}, indent=1) + "\n")
    return 0 if places["live"] == places["simulated"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, help="default 400, with --quick 100")
    parser.add_argument("--streams", type=int, default=6, help="clients; default 6")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a short run, no calibration")
    parser.add_argument("--seconds", type=float, default=20.0, help="of calibration")
    parser.add_argument("--out", type=Path, help="a JSON file for all figures")
    args = parser.parse_args()
    args.requests = args.requests or (100 if args.quick else 400)
    return args


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run brought."""

    finished: int
    hit_ratio: float
    """Prompt tokens found in a cache, over all prompt tokens."""
    computed_tokens: float
    """Prompt tokens that had to be computed, a request."""
    ttft_s_p50: float
    ttft_s_p90: float

    @classmethod
    def of(cls, summary: Mapping[str, Any], prompt_tokens: float) -> Figures:
        hit_ratio, ttft_s = summary["prefix_hit_ratio"], summary["ttft_s"]
        computed = (1 - hit_ratio) * prompt_tokens
        finished = summary["requests"]["finished"]
        return cls(finished, hit_ratio, computed, ttft_s["p50"], ttft_s["p90"])


class Bench:
    """The fleet, the workload and the profile, as files that both ways read."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self._args = args
        self._fleet, self._trace = folder / "four.toml", folder / "skewed.jsonl"
        self._profile, self._out = folder / "profile.toml", folder / "summary.json"
        self._token, self._join = folder / "token", f"127.0.0.1:{free_port()}"
        self._log = folder / "workers.log"
        self._fleet.write_text(FLEET)
        self._token.write_text("a secret of this benchmark")
        rows = skewed(args.requests, args.seed)
        self._trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._prompt_tokens = sum(row["input_length"] for row in rows) / len(rows)
        self._beside = self._calibrate()

    def _calibrate(self) -> list[str]:
        """Writes the profile; what else a simulation is told."""
        if self._args.quick:
            self._profile.write_text(PLAUSIBLE)
            return []
        words = ["calibrate", "--worker", str(self._fleet), "--out", str(self._profile)]
        words += ["--seconds", str(self._args.seconds)]
        command = [sys.executable, "-m", "fairlead", *words]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        (line,) = (line for line in said.split("\n") if line.startswith("[simulation]"))
        settings = line.removeprefix("[simulation]").replace(" ", "").split(",")
        return [f"simulation.{setting}" for setting in settings]

    @contextmanager
    def workers(self) -> Iterator[None]:
        """The instances, until the end of the context. They are forked from one process that has
        imported what they need: torch takes each of them seconds otherwise."""
        forks = multiprocessing.get_context("forkserver")
        forks.set_forkserver_preload(["fairlead.worker.start", "fairlead.engine.engine"])
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        words = ["worker", "--join", self._join, "--token-file", str(self._token)]
        words += ["--model", "fairlead-nano", "--hardware", str(self._profile), "--threads", "1"]
        words += ["--n-blocks", str(N_BLOCKS), "--block-tokens", str(BLOCK_TOKENS)]
        words += ["--max-context", "1024", "--max-sequences", "8"]
        workers = [
            forks.Process(target=work, args=([*words, "--name", f"i{i}"], self._log))
            for i in range(N_INSTANCES)
        ]
        try:
            for worker in workers:
                worker.start()
            yield
        finally:
            for worker in workers:
                worker.kill()
                worker.join()

    def play(self, policy: str, lap: int) -> Figures:
        """Live, through a gateway with this policy."""
        join = f'gateway.workers_listen="{self._join}"'
        changes = (*_changes(policy), join, f'gateway.token_file="{self._token}"')
        with served(self._fleet, changes) as url:
            self._wait_for_workers(url)
            # The seed makes the prompts: those of another lap are others.
            words = ["replay", str(self._trace), "--url", url, "--seed", str(1 + lap)]
            words += ["--concurrency", str(self._args.streams)]
            if fairlead([*words, "--quiet", "--out", str(self._out)]):
                raise SystemExit("the replay failed; why is said above")
        return Figures.of(json.loads(self._out.read_text()), self._prompt_tokens)

    def _wait_for_workers(self, url: str) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            # The gateway may not listen yet: without instances of its own it waits for none.
            with suppress(OSError), urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
                if answer.read().decode().count("\nfairlead_instance_running{") == N_INSTANCES:
                    return
            time.sleep(0.1)
        said = self._log.read_text() if self._log.exists() else "nothing"
        raise SystemExit(f"not all workers had joined after {START_S:.0f} s; they said: {said}")

    def simulate(self, policy: str) -> Figures:
        engine = ("pool.0.engine=emulated", f"pool.0.instances={N_INSTANCES}")
        profile = f'pool.0.hardware="{self._profile}"'
        changes = (*_changes(policy), *engine, profile, *self._beside)
        config, _ = read_fleet_file(self._fleet, changes)
        rows = TraceSource(str(self._trace)).shaped(Shape(), timed=False).rows()
        clients = Clients(list(rows), self._args.streams)
        summary = simulate(config, clients, seed=self._args.seed).summary
        return Figures.of(summary.to_json(), self._prompt_tokens)


class Clients:
    """What `fairlead replay --concurrency` does, in virtual time: the next row is sent when one
    has ended."""

    def __init__(self, rows: Sequence[TraceRow], n: int) -> None:
        self._first, self._rest = rows[:n], iter(rows[n:])

    def rows(self) -> Iterator[TraceRow]:
        return (replace(row, arrival_s=0.0) for row in self._first)

    def follow(self, row: TraceRow, ended_s: float) -> TraceRow | None:
        after = next(self._rest, None)
        return None if after is None else replace(after, arrival_s=ended_s)


def _changes(policy: str) -> Sequence[str]:
    return (f"policy.routing={policy}", *PARAMS.get(policy, ()))


def work(words: Sequence[str], log: Path) -> None:
    """A worker, in a process of its own; what it says goes to the log."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.exit(fairlead(list(words)))


def skewed(n: int, seed: int) -> list[dict[str, Any]]:
    """Rows of a trace with hashes of 16-token blocks."""
    draw = Random(f"live routing {seed}")
    popularity = list(accumulate(1 / (rank + 1) for rank in range(N_PREFIXES)))
    rows = []
    for i in range(n):
        (prefix,) = draw.choices(range(N_PREFIXES), cum_weights=popularity)
        row = {
            "chat_id": i,
            "timestamp": float(i),  # In order; clients send when they have been answered.
            "input_length": PREFIX_BLOCKS * BLOCK_TOKENS + draw.randint(*OWN_TOKENS),
            "output_length": draw.randint(*OUTPUT_TOKENS),
            "hash_ids": [prefix * PREFIX_BLOCKS + place for place in range(PREFIX_BLOCKS)],
        }
        rows.append(row)
    return rows


def _places(found: Mapping[str, Figures]) -> dict[str, int]:
    """1 for the policy that finds the most in caches; those that are about as good share it."""
    return {
        policy: 1 + sum(other.hit_ratio > figures.hit_ratio + CLEAR for other in found.values())
        for policy, figures in found.items()
    }


def _table(found: Mapping[str, Mapping[str, Figures]]) -> Table:
    table = Table("", "", "prompt cached", "computed", "TTFT p50", "TTFT p90")
    for policy in POLICIES:
        for way, runs in found.items():
            figures = runs[policy]
            table.add_row(
                policy if way == "live" else "",
                way,
                f"{figures.hit_ratio:.1%}",
                f"{figures.computed_tokens:.0f} tokens",
                f"{1e3 * figures.ttft_s_p50:.0f} ms",
                f"{1e3 * figures.ttft_s_p90:.0f} ms",
            )
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
