"""How fast the simulator is: simulated requests and tokens per second of one core's CPU time.

    python benchmarks/simulator.py              the real trace on 8 instances, and step by step
    python benchmarks/simulator.py --days       also nine days of traffic on 64 instances

The traces lie in ../shared/traces; without them a shipped slice stands in for the first, and the
second is left out. CPU time is that of this process, so nothing else runs in it. A fixed loop of
plain Python is timed beside every run: divide by it to compare two machines, or two moments.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fairlead.cli.fleet_file import read_fleet_file
from fairlead.instance import decoding
from fairlead.simulate.simulator import Simulator
from fairlead.workload.shape import Shape, ShapedTrace
from fairlead.workload.trace import open_trace

HERE = Path(__file__).parent
TRACES = HERE.parent.parent / "shared" / "traces"
FLEET = HERE.parent / "examples" / "eight-h100.toml"
PLAIN = (
    "policy.routing=least-load",
    "policy.batching=fcfs",
    "policy.admission=always",
    "policy.rescheduling=none",
)


def main() -> None:
    args = _arguments()
    compiled = "compiled" if str(decoding.__file__).endswith(".so") else "pure Python"
    print(f"core: {compiled}, Python {sys.version.split()[0]}")
    if args.case:
        _case(args.case, args.limit, args.rate, args.repeats)
        return
    # A process for each case: peak memory is the process's own.
    cases = [
        "azure",
        "azure-single-steps",
        "azure-default-policy",
        *(["days"] if args.days else []),
    ]
    for case in cases:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--case", case], check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", action="store_true", help="three million requests as well")
    parser.add_argument("--limit", type=int, help="requests of each case, instead of all")
    parser.add_argument("--rate", type=float, default=150.0, help="of the first cases, in req/s")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


def _case(case: str, limit: int | None, rate: float, repeats: int) -> None:
    if case == "days":
        path = TRACES / "servegen_m_large_days.parquet"
        if not path.exists():
            print(f"days: {path} is not here; left out")
            return
        _run(case, str(path), Shape(limit=limit), (*PLAIN, "pool.0.instances=64"), 1)
        return
    path = TRACES / "azure2023_conv.parquet"
    trace = str(path) if path.exists() else "azure-conv-slice"
    if case == "azure-single-steps":
        limit = min(limit or 2000, 2000)  # Slow, and the same for each request.
    changes = () if case == "azure-default-policy" else PLAIN
    _run(case, trace, Shape(limit=limit, rate_rps=rate), changes, repeats)


def _run(case: str, trace: str, shape: Shape, changes: Sequence[str], repeats: int) -> None:
    config, _ = read_fleet_file(FLEET, changes)
    shaped = ShapedTrace(open_trace(trace), shape)
    print(f"\n{case}: {trace}, {shaped.n_rows:,} requests, {shaped.arrivals}")
    for _ in range(repeats):
        loop_s = _plain_loop_s()
        simulator = Simulator(config, single_steps=case == "azure-single-steps")
        begun_s, begun_wall_s = time.process_time(), time.perf_counter()
        simulator.run(shaped)
        cpu_s, wall_s = time.process_time() - begun_s, time.perf_counter() - begun_wall_s
        _report(simulator, shaped.n_rows, cpu_s, wall_s, (loop_s + _plain_loop_s()) / 2)


def _report(simulator: Simulator, n: int, cpu_s: float, wall_s: float, loop_s: float) -> None:
    facts, columns = simulator.facts(), simulator.records.columns()
    # A long run holds only its first records; its tokens are those of its gaps and first tokens.
    tokens = simulator.gaps.n + n
    busy = facts["instances"].busy_fraction or 0.0
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  {n / cpu_s:8,.0f} requests/s  {tokens / cpu_s:11,.0f} tokens/s of CPU"
        f"  ({cpu_s:.2f} s CPU, {wall_s:.2f} s wall)\n"
        f"  {simulator.heap.n_events / n:8.2f} events per request, {busy:.0%} of the time in steps,"
        f" peak memory {peak_mb:.0f} MB, {len(columns):,} records held\n"
        f"  plain loop of a million: {loop_s * 1e3:.0f} ms; digest {facts['digest']}"
    )


def _plain_loop_s() -> float:
    begun_s = time.process_time()
    slots: dict[int, float] = {}
    for i in range(1_000_000):
        slots[i & 255] = i * 2.0
    return time.process_time() - begun_s


if __name__ == "__main__":
    main()
