"""A world drawn from one seed: a fleet, its traffic, its policies, and what goes wrong.

Each part draws from a stream of its own. Everything is small and tight, so that queues fill,
memory runs out, and rare paths are common. Faults begin in the first half; in the second nothing
more goes wrong, and traffic goes on for a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from fairlead.fleet.config import FleetConfig, read_config
from fairlead.policies import registry
from fairlead.simulate.draw_faults import draw_faults
from fairlead.simulate.faults import Faults
from fairlead.simulate.read_faults import make_faults
from fairlead.workload.draws import stream_key
from fairlead.workload.trace import TraceRow

PROFILES = ("h100-llama-3.1-8b", "a100-llama-3.1-8b")
MODELS = ("m", "n")
BUDGETS = ("step_tokens", "chunk_tokens", "max_step_tokens")
"""Parameters of batching policies that say how many tokens a step may have."""


@dataclass(frozen=True, slots=True)
class Session:
    """Calls of one client, each sent a while after the one before has ended."""

    calls: tuple[TraceRow, ...]
    gaps_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What was drawn, as tables of a fleet file and of a faults file."""

    seed: int
    fleet: Mapping[str, Any]
    sessions: tuple[Session, ...]
    faults: Mapping[str, Sequence[Mapping[str, Any]]]
    faulty_s: float
    """No fault begins after this."""
    single_steps: bool
    """Every iteration is an event of its own."""
    shuffled: bool
    """What falls on one instant happens in an order that the seed draws."""

    def config(self) -> FleetConfig:
        return read_config(self.fleet)

    def make_faults(self) -> Faults:
        return make_faults({kind: list(tables) for kind, tables in self.faults.items()})

    @property
    def n_requests(self) -> int:
        return sum(len(session.calls) for session in self.sessions)

    def describe(self) -> str:
        """What was drawn, in a few lines."""
        policy = self.fleet["policy"]
        lines = [
            f"{self.n_requests} requests in {len(self.sessions)} sessions, faults within "
            f"{self.faulty_s:.3g} s"
            + (", single steps" if self.single_steps else "")
            + (", shuffled" if self.shuffled else "")
            + (", tenants apart" if self.config().keeps_tenants_apart else ""),
            *(f"pool {_inline(pool)}" for pool in self.fleet["pool"]),
            f"policy {_inline(policy)}",
            f"limits {_inline(self.fleet['limits'])}",
            f"simulation {_inline(self.fleet['simulation'])}",
        ]
        for kind, tables in self.faults.items():
            lines += [f"{kind} {_inline(table)}" for table in tables]
        return "\n".join(lines)


class SessionArrivals:
    """The sessions' calls as a simulator wants them. For one run."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions
        self._next: dict[int, tuple[float, TraceRow]] = {}
        for session in sessions:
            for call, gap_s, then in zip(
                session.calls, session.gaps_s, session.calls[1:], strict=False
            ):
                self._next[call.index] = (gap_s, then)

    def rows(self) -> Iterator[TraceRow]:
        firsts = [session.calls[0] for session in self._sessions]
        return iter(sorted(firsts, key=lambda row: row.arrival_s or 0.0))

    def follow(self, row: TraceRow, ended_s: float) -> TraceRow | None:
        gap_s, then = self._next.get(row.index, (0.0, None))
        if then is not None:
            then.arrival_s = ended_s + gap_s
        return then


def draw(seed: int) -> Scenario:
    """Equal seeds draw equal scenarios."""

    def stream(name: str) -> Random:
        return Random(f"{seed} fuzz {name}")

    world = stream("world")
    faulty_s = world.uniform(1.0, 6.0)
    models = world.choice([MODELS[:1], MODELS[:1], MODELS])
    traffic = _Traffic(stream("traffic"), models, stream("tenants"))
    sessions = traffic.sessions(faulty_s)
    fleet = _fleet(stream("fleet"), models, traffic)
    fleet["policy"] = _policy(seed)
    if stream("apart").random() < 0.5:
        fleet["tenants"] = {"database": "nobody opens it"}
    _hand_offs(stream("handoffs"), fleet)
    names = [f"{pool['name']}-{i}" for pool in fleet["pool"] for i in range(pool["instances"])]
    return Scenario(
        seed,
        fleet,
        sessions,
        draw_faults(seed, names, faulty_s) if world.random() < 0.9 else {},
        faulty_s,
        single_steps=world.random() < 0.25,
        shuffled=world.random() < 0.3,
    )


# ---------------------------------------------------------------- traffic


class _Traffic:
    """Requests of a few kinds, some of which share a prefix."""

    def __init__(self, rng: Random, models: Sequence[str], tenants: Random) -> None:
        """`tenants` draws who asks."""
        self.most_prompt = rng.choice([8, 40, 150])
        self.most_output = rng.choice([2, 15, 60, 120])
        self._rng = rng
        self._models = models
        self._index = 0
        self._hash_tokens = rng.choice([0, 4, 8, 24])
        self._shared = [[100 * group + i for i in range(50)] for group in range(1, 4)]
        self._tenants = tenants

    def sessions(self, faulty_s: float) -> tuple[Session, ...]:
        rng = self._rng
        n = rng.randint(5, 120)
        turns = rng.choice([1, 1, 3])
        digits = rng.choice([1, 9, 9])  # Sometimes many come at one instant.
        last_s = [0.3 * faulty_s, 1.5 * faulty_s]
        starts = sorted(round(rng.uniform(0, rng.choice(last_s)), digits) for _ in range(n))
        return tuple(self._session(start_s, rng.randint(1, turns)) for start_s in starts)

    def _session(self, start_s: float, turns: int) -> Session:
        model = self._rng.choice(self._models)
        calls = tuple(self._row(start_s, model) for _ in range(turns))
        gaps_s = tuple(self._rng.choice([0.0, self._rng.uniform(0, 0.5)]) for _ in calls[1:])
        return Session(calls, gaps_s)

    def _row(self, arrival_s: float, model: str) -> TraceRow:
        rng = self._rng
        prompt = rng.randint(1, self.most_prompt)
        output = rng.randint(1, self.most_output)
        index, self._index = self._index, self._index + 1
        ids = self._ids(index, prompt // self._hash_tokens) if self._hash_tokens else ()
        return TraceRow(
            index=index,
            arrival_s=arrival_s,
            prompt_tokens=prompt,
            output_tokens=output,
            hash_ids=ids,
            hash_block_tokens=self._hash_tokens,
            model=model,
            tenant=self._tenants.choice(["a", "a", "a", "b", "c"]),
        )

    def _ids(self, index: int, n: int) -> tuple[int, ...]:
        """A part that others have too, then its own."""
        shared = self._rng.choice(self._shared)[: self._rng.randint(0, n)]
        return (*shared, *(10_000 * (index + 1) + i for i in range(n - len(shared))))


# ---------------------------------------------------------------- the fleet


def _fleet(rng: Random, models: Sequence[str], traffic: _Traffic) -> dict[str, Any]:
    block_tokens = rng.choice([1, 2, 4, 7, 16, 32])
    max_tokens = rng.choice([0, 0, traffic.most_output + rng.randint(0, 60)])
    longest = traffic.most_prompt + (max_tokens or traffic.most_output)
    served = [*models, *([models[0]] if rng.random() < 0.2 else [])]
    latest_s = rng.choice([0.2, 1.0, 3.0])
    return {
        "pool": [
            _pool(rng, f"p{i}", model, block_tokens, longest) for i, model in enumerate(served)
        ],
        "limits": {
            "max_queued": rng.choice([2, 20, 1000]),
            "max_queued_s": rng.choice([1.0, 5.0, 20.0]),
            "max_deaths": rng.choice([1, 3]),
            "lost_after_s": rng.choice([0.3, 2.0]),
        },
        "objectives": {
            "interactive": {
                "ttft_s": latest_s * rng.uniform(0.1, 1.0),
                "tpot_s": rng.choice([0.005, 0.02, 0.1]),
            },
            "task": {"deadline_s": latest_s},
            "batch": {},
        },
        "workload": {
            "default": "batch",
            "mix": rng.choice([{}, {"interactive": 0.4, "task": 0.3}, {"interactive": 1.0}]),
        },
        "simulation": {
            "delay_s": rng.choice([0.0, 0.0005, 0.02]),
            "jitter_s": rng.choice([0.0, 0.0002, 0.02]),
            "report_s": rng.choice([0.05, 0.2, 0.5]),
            "tick_s": rng.choice([0.1, 1.0]),
            "gateway_s": rng.choice([0.0, 0.0, 0.003]),
            "start_up_s": rng.choice([0.1, 1.0, 3.0]),
            "max_tokens": max_tokens,
        },
    }


def _pool(rng: Random, name: str, model: str, block_tokens: int, longest: int) -> dict[str, Any]:
    """Its memory holds a few of the longest requests, or not even one of them."""
    holds = rng.choice([0.8, 1.0, 1.0, 1.3, 2.0, 4.0])
    pool: dict[str, Any] = {
        "name": name,
        "model": model,
        "engine": "emulated",
        "hardware": rng.choice(PROFILES),
        "instances": rng.randint(1, 3),
        "block_tokens": block_tokens,
        "n_blocks": int(holds * (longest // block_tokens + 1)) + rng.randint(0, 2),
        "max_sequences": rng.choice([1, 2, 4, 32]),
        "max_waiting": rng.choice([0, 1, 2, 8, 64]),
    }
    if rng.random() < 0.1:
        pool["max_context"] = max(longest - rng.randint(0, longest // 2), 2)
    return pool


def _policy(seed: int) -> dict[str, Any]:
    """One of each family; the steps of half of them are small. A policy that is added later wins
    some seeds, and leaves the others as they were."""
    policy: dict[str, Any] = {"params": {}}
    for family in registry.FAMILIES:
        rng = Random(f"{seed} fuzz {family}")
        entries = [entry for entry in registry.entries() if entry.family == family]
        entry = max(entries, key=lambda e: stream_key(seed, f"fuzz {e.family} {e.name}"))
        policy[family] = entry.name
        known = {field.name for field in fields(entry.params)}
        budgets = [name for name in BUDGETS if name in known]
        if budgets and rng.random() < 0.5:
            policy["params"][family] = {budgets[0]: rng.choice([1, 3, 16, 64])}
    return policy


def _hand_offs(rng: Random, fleet: dict[str, Any]) -> None:
    """Half of the worlds move requests about; in some, prompts are computed apart, and in some
    instances come and go."""
    if rng.random() < 0.5:
        fleet["policy"]["rescheduling"] = "random-moves"
        params = {"period_s": 0.0, "moves": rng.choice([1, 3, 10])}
        fleet["policy"]["params"]["rescheduling"] = params
    fleet["simulation"]["handoff_bytes_per_s"] = rng.choice([1e6, 1e8, 1e10])
    if rng.random() < 0.3:
        for pool in list(fleet["pool"]):
            twin = {**pool, "name": f"{pool['name']}d", "role": "decode"}
            pool["role"] = rng.choice(["prefill", "prefill", "mixed"])
            fleet["pool"].append(twin)
    if rng.random() < 0.2:
        fleet["policy"]["roles"] = "random-roles"
        fleet["policy"]["params"]["roles"] = {"period_s": rng.choice([0.0, 1.0])}
    if rng.random() < 0.3:
        fleet["policy"]["scaling"] = "random-sizes"
        fleet["policy"]["params"]["scaling"] = {"period_s": rng.choice([0.3, 1.0, 3.0])}
        for pool in fleet["pool"]:
            pool["min_instances"] = rng.choice([0, 1, 1])
            pool["max_instances"] = pool["instances"] + rng.choice([0, 1, 2])


def _inline(table: Mapping[str, Any]) -> str:
    """`key=value` for each."""
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in table.items()
    )
