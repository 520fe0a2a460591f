"""How many instances' worth of work is inside a pool, by each of the things that can run out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from fairlead.model import BATCH, HostView, Objective, ProgramId, RequestId, TenantId
from fairlead.policies.freeness import free_blocks
from fairlead.policies.scaling.load import in_flight
from fairlead.policies.scaling.parts import PoolView


@dataclass(frozen=True, slots=True)
class Probe:
    """A request that nobody sent, to ask an instance for its prices. None of it is cached."""

    prompt_tokens: int
    id: RequestId = RequestId("probe")
    arrival_s: float = 0.0
    max_tokens: int = 1 << 20
    objective: Objective = BATCH
    tenant: TenantId = TenantId("")
    user: str = ""
    share_weight: float = 1.0
    priority: int = 0
    program: ProgramId | None = None
    expected_output_tokens: int | None = None
    block_hashes: tuple[()] = ()


def memory(pool: PoolView, prompt_tokens: float) -> float:
    """KV held and promised over the memory of an instance. Requests without an instance are
    counted with a mean prompt."""
    used = sum(
        (host.total_blocks - free_blocks(host)) * host.block_tokens + host.queued_tokens
        for host in pool.hosts
    )
    capacity = fmean(host.total_blocks * host.block_tokens for host in pool.hosts)
    return (used + pool.n_queued * prompt_tokens) / capacity


def seats(pool: PoolView) -> float:
    """Requests over the largest batch of an instance."""
    return in_flight(pool) / fmean(host.max_sequences for host in pool.hosts)


def tpot_s(hosts: Sequence[HostView], prompt_tokens: int) -> list[float]:
    """Seconds per output token on each instance now, for one more."""
    probe = Probe(prompt_tokens, RequestId("probe-tpot"))
    return [host.predicted_tpot_s(probe) for host in hosts]


def prefill_s(hosts: Sequence[HostView], prompt_tokens: int) -> float:
    """What a prompt costs an instance beside what it does already: how much later a request twice
    as long would begin, on the instance where that is least."""
    one, two = Probe(prompt_tokens), Probe(2 * prompt_tokens, RequestId("probe-twice"))
    later_s = [host.predicted_ttft_s(two) - host.predicted_ttft_s(one) for host in hosts]
    return max(min(later_s), 0.0)
