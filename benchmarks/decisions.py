"""What does a routing decision cost? CPU time per request among a thousand instances.

    python benchmarks/decisions.py                          a million blocks in the prefix index
    python benchmarks/decisions.py --blocks 10000000        ten million: 1.4 GB, half a minute
    python benchmarks/decisions.py --policies dualmap,prefix-load
    python benchmarks/decisions.py --cold                   prompts that nobody has cached
    python benchmarks/decisions.py --quick                  a few decisions: does it run?

A real fleet with real shadows: every instance decodes and computes prompts, reports twice a second
with its cache events, and holds its part of the index. Prompts share a system prompt that everybody
holds and a conversation that one or two instances hold, and end in something new. Time moves on
between decisions, so that every shadow that is looked at has to catch up first.

"rank" is the policy alone; "arrival" is everything that the fleet does for a request until it is
dispatched: who has room, admission, the policy, the ledger, what is expected in the cache. CPU time
is that of this process, so nothing else runs in it. A fixed loop of plain Python is timed beside
it: divide by it to compare two machines, or two moments. Exit status 1: a target was missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from random import Random

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fairlead.cli.fleet_file import read_fleet_file
from fairlead.fleet import Fleet
from fairlead.instance import decoding
from fairlead.model import (
    Arrived,
    BlockHash,
    Dispatch,
    Finished,
    FinishReason,
    InstanceId,
    InstanceSpec,
    InstanceUp,
    InstanceView,
    Objective,
    Produced,
    Report,
    Reported,
    Request,
    RequestId,
    RequestView,
    Tokens,
)
from fairlead.policies import registry
from fairlead.policies.routing import RoutingPolicy
from fairlead.simulate.machine import simulated_spec
from fairlead.simulate.settings import read_settings

FLEET = Path(__file__).parent.parent / "examples" / "eight-h100.toml"
FEW = ("dualmap", "power-of-two", "two-choices", "dodoor", "round-robin")
"""Policies that look at few candidates. `consistent-hash` adds up the load of all."""
FEW_TARGET_US, ALL_TARGET_US = 50.0, 2000.0
SYSTEM_PROMPTS, SYSTEM_BLOCKS = 8, 32
CHAT_BLOCKS, NEW_BLOCKS = 96, 16
SECOND_HOLDER = 10
"""One conversation in so many is held by two instances."""
OUTPUT_TOKENS = 200
REPORTS_PER_S = 2.0


def main() -> int:
    args = _arguments()
    console = Console(width=max(Console().width, 100))
    compiled = "compiled" if str(decoding.__file__).endswith(".so") else "pure Python"
    console.print(f"core: {compiled}, Python {sys.version.split()[0]}")
    switch = Switch()
    traffic = Traffic(args.instances, args.blocks, args.seed, cold=args.cold)
    bench = Bench(switch, traffic, args.busy)
    bench.fill(console)
    rows = []
    for name in args.policies:
        loop_s = _plain_loop_s()
        switch.policy = registry.build("routing", name, {}, Random(args.seed))
        rows.append(bench.measure(name, args.decisions, (loop_s + _plain_loop_s()) / 2))
    console.print(_table(rows, args))
    return 0 if all(row.holds for row in rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [entry.name for entry in registry.entries() if entry.family == "routing"]
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=1_000_000, help="held, over all instances")
    parser.add_argument("--busy", type=int, default=24, help="requests on each instance")
    parser.add_argument("--decisions", type=int, default=300, help="measured, for each policy")
    parser.add_argument("--policies", type=lambda text: text.split(","), default=every)
    parser.add_argument("--cold", action="store_true", help="nothing of a prompt is cached")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="small: does it run?")
    args = parser.parse_args()
    if args.quick:
        args.instances, args.blocks, args.busy, args.decisions = 20, 20_000, 4, 5
    return args


class Switch:
    """The fleet's routing policy: whichever is measured now, and what asking it took."""

    def __init__(self) -> None:
        self.policy: RoutingPolicy = registry.build("routing", "round-robin", {}, Random(0))
        self.took_ns = 0

    def rank(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> Sequence[InstanceView]:
        begun_ns = time.process_time_ns()
        ranked = self.policy.rank(request, candidates, now)
        self.took_ns = time.process_time_ns() - begun_ns
        return ranked


class Traffic:
    """Conversations, each at home on an instance."""

    def __init__(self, n_instances: int, n_blocks: int, seed: int, *, cold: bool = False) -> None:
        """`cold`: nothing of a prompt is cached anywhere."""
        self.n_instances = n_instances
        self._cold = cold
        self._seed = seed
        self._rng = Random(seed)
        here = n_blocks / n_instances - SYSTEM_PROMPTS * SYSTEM_BLOCKS
        chats = max(here / (1 + 1 / SECOND_HOLDER) / CHAT_BLOCKS, 1)
        self.n_chats = int(chats * n_instances)
        self._system = [self._names("system", i, SYSTEM_BLOCKS) for i in range(SYSTEM_PROMPTS)]
        self._n_requests = 0

    def request(self, now: float) -> Request:
        """Goes on with one of the conversations."""
        self._n_requests += 1
        chat = self._rng.randrange(self.n_chats)
        if self._cold:
            n_blocks = SYSTEM_BLOCKS + CHAT_BLOCKS + NEW_BLOCKS
            names = tuple(self._names("request", self._n_requests, n_blocks))
        else:
            new = self._names("request", self._n_requests, NEW_BLOCKS)
            names = (*self._system[chat % SYSTEM_PROMPTS], *self._chat(chat), *new)
        return Request(
            id=RequestId(f"r{self._n_requests}"),
            arrival_s=now,
            prompt_tokens=16 * len(names) + 5,
            max_tokens=1000,
            objective=Objective(ttft_s=1.0, tpot_s=0.05),
            model="m",
            block_hashes=names,
        )

    def held_by(self, instance: int) -> tuple[BlockHash, ...]:
        """All blocks that it holds at first."""
        names = [name for system in self._system for name in system]
        for chat in range(instance, self.n_chats, self.n_instances):
            names += self._chat(chat)
        for chat in range((instance - 1) % self.n_instances, self.n_chats, self.n_instances):
            if chat // self.n_instances % SECOND_HOLDER == 0:
                names += self._chat(chat)
        return tuple(dict.fromkeys(names))

    def _chat(self, i: int) -> list[BlockHash]:
        return self._names("chat", i, CHAT_BLOCKS)

    def _names(self, kind: str, i: int, n: int) -> list[BlockHash]:
        seed = int.from_bytes(blake2b(f"{self._seed} {kind} {i}".encode()).digest()[:8], "big")
        data = Random(seed).randbytes(16 * n)
        return [BlockHash(data[at : at + 16]) for at in range(0, 16 * n, 16)]


@dataclass(slots=True)
class Engine:
    """What an instance would say of itself, beside what its shadow believes anyway."""

    cache_events: int = 0
    stored: list[tuple[BlockHash, ...]] = field(default_factory=list)
    """Prompts computed since the last report; then what is new in them, until it is evicted."""
    old: list[tuple[BlockHash, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """One policy's figures."""

    name: str
    rank_us: list[float]
    arrival_us: list[float]
    loop_s: float

    @property
    def target_us(self) -> float:
        return FEW_TARGET_US if self.name in FEW else ALL_TARGET_US

    @property
    def holds(self) -> bool:
        return percentile(self.rank_us, 0.5) <= self.target_us


class Bench:
    """A fleet under steady load."""

    def __init__(self, switch: Switch, traffic: Traffic, busy: int) -> None:
        self._switch = switch
        self._traffic = traffic
        self._busy = busy
        admission = registry.build("admission", "predicted", {}, Random(0))
        self.fleet = Fleet(switch, admission, models=("m",))
        self._now = 0.0
        # A request stays some four seconds; each instance has so many of them.
        self._gap_s = 4.0 / (busy * traffic.n_instances)
        self._due = 0.0
        self._engines: dict[InstanceId, Engine] = {}
        self._next: Iterator[InstanceId] = iter(())
        self._pending: deque[tuple[Request, InstanceId]] = deque()
        self._decoding: deque[tuple[Request, InstanceId]] = deque()

    def fill(self, console: Console) -> None:
        """Instances come up and tell what they hold, and get their requests."""
        before_mb = resident_mb()
        begun_s = time.process_time()
        traffic, n_blocks = self._traffic, 0
        for i, spec in enumerate(specs(traffic.n_instances)):
            self.fleet.handle(InstanceUp(spec), self._now)
            self._engines[spec.id] = Engine()
            held = traffic.held_by(i)
            n_blocks += len(held)
            self._report(spec.id, whole=held)
        took_s, grown_mb = time.process_time() - begun_s, resident_mb() - before_mb
        console.print(
            f"{traffic.n_instances:,} instances hold {n_blocks:,} blocks under "
            f"{len(self.fleet.prefix_index):,} names: {grown_mb:,.0f} MB with the shadows, "
            f"{grown_mb * 1e6 / n_blocks:.0f} bytes a block; {took_s:.1f} s CPU to make and tell"
        )
        n = self._busy * traffic.n_instances
        for _ in track(range(n), "giving them work", transient=True, disable=n < 5000):
            self._arrive()
            while len(self._pending) > traffic.n_instances:
                self._begin()

    def measure(self, name: str, n: int, loop_s: float) -> Row:
        """Decisions of one policy; those that fill its own memory first do not count."""
        rank_us, arrival_us = [], []
        for i in range(n + n // 5):
            took_us = self._arrive()
            if i >= n // 5:
                rank_us.append(self._switch.took_ns / 1e3)
                arrival_us.append(took_us)
            self._begin()
            self._end()
            self._reports()
        return Row(name, rank_us, arrival_us, loop_s)

    def _arrive(self) -> float:
        """Microseconds that it took."""
        self._now += self._gap_s
        request = self._traffic.request(self._now)
        begun_ns = time.process_time_ns()
        actions = self.fleet.handle(Arrived(request), self._now)
        took_us = (time.process_time_ns() - begun_ns) / 1e3
        (dispatch,) = actions
        assert isinstance(dispatch, Dispatch), f"{dispatch} where all have room"
        self._pending.append((request, dispatch.instance))
        return took_us

    def _begin(self) -> None:
        """The first token of whoever waits longest."""
        request, instance = self._pending.popleft()
        self._tokens(instance, request, 0, 1)
        self._engines[instance].stored.append(request.block_hashes)
        self._decoding.append((request, instance))

    def _end(self) -> None:
        request, instance = self._decoding.popleft()
        self._tokens(instance, request, 1, OUTPUT_TOKENS)
        self.fleet.handle(Finished(instance, request.id, 1, FinishReason.STOP), self._now)

    def _tokens(self, instance: InstanceId, request: Request, start: int, end: int) -> None:
        row = Produced(request.id, 1, start, range(start, end))
        self.fleet.handle(Tokens(instance, [row]), self._now)

    def _reports(self) -> None:
        """Of those whose turn it is."""
        self._due += REPORTS_PER_S * self._traffic.n_instances * self._gap_s
        while self._due >= 1:
            self._due -= 1
            instance = next(self._next, None)
            if instance is None:
                self._next = iter(self._engines)
                instance = next(self._next)
            self._report(instance)

    def _report(self, instance: InstanceId, whole: tuple[BlockHash, ...] | None = None) -> None:
        engine, shadow = self._engines[instance], self.fleet.instances[instance]
        stored = [name for names in engine.stored for name in names]
        evicted = [name for names in engine.old for name in names]
        engine.old = [names[-NEW_BLOCKS:] for names in engine.stored]
        engine.stored = []
        engine.cache_events += len(stored) + len(evicted)
        report = Report(
            instance=instance,
            as_of_s=self._now,
            free_blocks=shadow.total_blocks // 4,
            cached_blocks=shadow.total_blocks // 4,
            running=shadow.running,
            waiting=shadow.waiting,
            queued_tokens=shadow.queued_tokens,
            context_tokens=shadow.context_tokens,
            requests=tuple(shadow.attempts.items()),
            stored=tuple(stored) if whole is None else whole,
            evicted=tuple(evicted),
            cache_events=engine.cache_events,
            whole_cache=whole is not None,
        )
        self.fleet.handle(Reported(report), self._now)


def specs(n: int) -> Iterator[InstanceSpec]:
    """The instances of the example, many times over."""
    config, _ = read_fleet_file(FLEET, ("pool.0.model=m",))
    settings = read_settings(config)
    urgent_first = config.policy.build("batching", 0, "batching").urgent_first
    for i in range(n):
        yield simulated_spec(config.pools[0], InstanceId(f"i{i}"), urgent_first, settings)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def _table(rows: Sequence[Row], args: argparse.Namespace) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, title="CPU time of a decision: median and p99, in microseconds"
    )
    for column in ("policy", "rank", "p99", "arrival", "p99", "target", "", "loop ms"):
        left = column == "policy"
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for row in sorted(rows, key=lambda row: (row.target_us, percentile(row.rank_us, 0.5))):
        table.add_row(
            row.name,
            *(
                f"{percentile(v, q):,.0f}"
                for v in (row.rank_us, row.arrival_us)
                for q in (0.5, 0.99)
            ),
            f"{row.target_us:,.0f}",
            "" if row.holds else "missed",
            f"{row.loop_s * 1e3:.0f}",
        )
    table.caption = f"{args.instances:,} instances, {args.busy} requests on each"
    return table


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def _plain_loop_s() -> float:
    begun_s = time.process_time()
    slots: dict[int, float] = {}
    for i in range(1_000_000):
        slots[i & 255] = i * 2.0
    return time.process_time() - begun_s


if __name__ == "__main__":
    sys.exit(main())
