"""Instances and pools as a test wants them to look, for policies that are asked by the clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from hypothesis import strategies as st

from fairlead.model import InstanceId, Request, RequestId, RequestView, Role
from fairlead.policies import registry
from fairlead.policies.rescheduling import Move
from tests.strategies import request

RESCHEDULING = [e.name for e in registry.entries() if e.family == "rescheduling"]
SCALING = [e.name for e in registry.entries() if e.family == "scaling"]
S_PER_TOKEN = 0.001
"""Prefill, and what a hand-off takes for each token of context."""


@dataclass(frozen=True)
class Placed:
    """A request that was sent to an instance."""

    request: Request
    n_produced: int = 0
    first_token_s: float | None = None
    is_moving: bool = False

    @property
    def context_tokens(self) -> int:
        return self.request.prompt_tokens + self.n_produced


def placed(id: str, tokens: int, **fields: Any) -> Placed:
    """A request with so many tokens of context."""
    own = {name: fields.pop(name) for name in ("first_token_s", "is_moving") if name in fields}
    blocks = fields.pop("block_hashes", ())
    prompt = request(id, [], out=100, block_hashes=blocks, prompt_tokens=tokens, **fields)
    return Placed(prompt, **own)


def running(id: str, tokens: int, **fields: Any) -> Placed:
    return placed(id, tokens, first_token_s=0.0, **fields)


@dataclass(frozen=True)
class Host:
    """An instance; every figure follows from the requests inside."""

    id: InstanceId
    decoding: tuple[Placed, ...] = ()
    queue: tuple[Placed, ...] = ()
    draining: bool = False
    total_blocks: int = 100
    block_tokens: int = 16
    max_sequences: int = 16
    preemptions: int = 0
    n_moving: int = 0
    pool: str = "p"
    role: Role = Role.MIXED
    price_per_hour: float = 0.0
    cached: dict[RequestId, int] = field(default_factory=dict)
    tpot_s_per_sequence: float = 0.001

    @property
    def running(self) -> int:
        return len(self.decoding)

    @property
    def waiting(self) -> int:
        return len(self.queue)

    @property
    def queued_tokens(self) -> int:
        return sum(one.context_tokens for one in self.queue)

    @property
    def promised_tokens(self) -> int:
        return self.queued_tokens

    @property
    def context_tokens(self) -> int:
        return sum(one.context_tokens for one in self.decoding)

    @property
    def available_blocks(self) -> int:
        inside = (*self.decoding, *self.queue)
        held = sum(-(-one.context_tokens // self.block_tokens) for one in inside)
        return max(self.total_blocks - held, 0)

    def cached_tokens(self, request: RequestView) -> int:
        return self.cached.get(request.id, 0)

    def predicted_ttft_s(self, request: RequestView) -> float:
        """Behind all that waits, or what was sent before it."""
        ahead = 0
        for one in self.queue:
            if one.request.id == request.id:
                return S_PER_TOKEN * (ahead + one.context_tokens)
            ahead += one.context_tokens
        return S_PER_TOKEN * (ahead + request.prompt_tokens - self.cached_tokens(request))

    def least_ttft_s(self, request: RequestView) -> float:
        return 0.0

    def added_s(self, request: RequestView) -> float:
        return S_PER_TOKEN * (request.prompt_tokens - self.cached_tokens(request))

    def broken_paces(self, request: RequestView) -> float:
        """Of those who wait and were promised one: who decodes is ahead of its pace."""
        if self.added_s(request) <= 0:
            return 0.0
        return float(sum(one.request.objective.tpot_s is not None for one in self.queue))

    def predicted_tpot_s(self, request: RequestView) -> float:
        return 0.01 + self.tpot_s_per_sequence * (self.running + self.waiting)

    def predicted_e2e_s(self, request: RequestView) -> float:
        return self.predicted_ttft_s(request) + 100 * self.predicted_tpot_s(request)

    def yielding_s(self, request: RequestView) -> float:
        return 0.0

    def stretch_s(self, context_tokens: int) -> float:
        return self.tpot_s_per_sequence

    def handoff_s(self, context_tokens: int) -> float:
        return S_PER_TOKEN * context_tokens


def host(name: str, *decoding: Placed, **fields: Any) -> Host:
    fields["queue"] = tuple(fields.get("queue", ()))
    return Host(InstanceId(name), decoding, **fields)


def crowd(name: str, n: int, tokens: int, **fields: Any) -> Host:
    """An instance with so many sequences of the same size."""
    return host(name, *(running(f"{name}{i}", tokens) for i in range(n)), **fields)


@dataclass(frozen=True)
class Pool:
    hosts: tuple[Host, ...] = ()
    n_starting: int = 0
    n_queued: int = 0
    start_up_s: float = 60.0
    min_instances: int = 0
    max_instances: int = 64
    name: str = "p"


def after(hosts: list[Host], moves: list[Move]) -> list[Host]:
    """The same instances once the moves are done."""
    inside = {here.id: (list(here.decoding), list(here.queue)) for here in hosts}
    for move in moves:
        for source, target in zip(inside[move.source], inside[move.target], strict=True):
            for one in [one for one in source if one.request.id == move.request]:
                source.remove(one)
                target.append(one)
    return [
        replace(here, decoding=tuple(inside[here.id][0]), queue=tuple(inside[here.id][1]))
        for here in hosts
    ]


def build(family: str, name: str, **params: Any) -> Any:
    return registry.build(family, name, params, Random(5))


@st.composite
def host_lists(draw: st.DrawFn) -> list[Host]:
    """Fleets of all kinds: nearly empty, crowded, draining, with roles, with hand-offs."""
    hosts = []
    for i in range(draw(st.integers(0, 5))):
        sizes = draw(st.lists(st.integers(1, 700), max_size=8))
        waits = draw(st.lists(st.integers(1, 1600), max_size=6))
        hosts.append(
            host(
                f"i{i}",
                *(
                    running(
                        f"i{i}d{j}",
                        size,
                        priority=draw(st.sampled_from([0, 0, -1, 3])),
                        is_moving=draw(st.booleans()) and draw(st.booleans()),
                    )
                    for j, size in enumerate(sizes)
                ),
                queue=[placed(f"i{i}q{j}", size) for j, size in enumerate(waits)],
                draining=draw(st.booleans()) and draw(st.booleans()),
                role=draw(st.sampled_from([Role.MIXED, Role.MIXED, Role.DECODE, Role.PREFILL])),
                n_moving=draw(st.sampled_from([0, 0, 1, 5])),
                preemptions=draw(st.sampled_from([0, 2])),
            )
        )
    return hosts
