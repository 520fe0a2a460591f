"""Hypothesis strategies and builders that every test of the core shares."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

from fairlead.instance import Instance
from fairlead.latency import Linear, from_coefficients
from fairlead.memory import chain_hashes
from fairlead.model import InstanceId, InstanceSpec, Objective, Request, RequestId
from fairlead.policies import registry

LATENCY = Linear(
    base_s=0.005,
    gemm_s_per_token=0.0001,
    decode_s_per_sequence=0.0001,
    decode_s_per_context_token=1e-7,
    prefill_s_per_pair=1e-9,
).coefficients()
"""A small, plain engine: 5 ms a step, 0.1 ms a prefill token."""
BATCHING = [entry.name for entry in registry.entries() if entry.family == "batching"]
ROUTING = [entry.name for entry in registry.entries() if entry.family == "routing"]
ADMISSION = [entry.name for entry in registry.entries() if entry.family == "admission"]
BLOCK_TOKENS = 4


def spec(id: str = "a", **changes: Any) -> InstanceSpec:
    fields: dict[str, Any] = {
        "id": InstanceId(id),
        "pool": "p",
        "model": "m",
        "n_blocks": 32,
        "block_tokens": BLOCK_TOKENS,
        "max_sequences": 8,
        "max_waiting": 64,
        "max_context": 1024,
        "latency": LATENCY,
        "incarnation": f"{id}-1",
    }
    return InstanceSpec(**{**fields, **changes})


def request(id: str = "r1", prompt: int | list[int] = 10, out: int = 5, **changes: Any) -> Request:
    """A request with a real prompt: `prompt` ids, or that many ids that nobody else has."""
    if isinstance(prompt, int):
        draw = Random(id)
        token_ids = tuple(draw.randrange(1000) for _ in range(prompt))
    else:
        token_ids = tuple(prompt)
    fields: dict[str, Any] = {
        "id": RequestId(id),
        "arrival_s": 0.0,
        "prompt_tokens": len(token_ids),
        "max_tokens": out,
        "model": "m",
        "token_ids": token_ids,
        "block_hashes": chain_hashes(token_ids, BLOCK_TOKENS),
    }
    return Request(**{**fields, **changes})


def instance(
    batching: str = "fcfs", params: dict[str, Any] | None = None, seed: int = 0, **changes: Any
) -> Instance:
    the_spec = spec(**changes)
    policy = registry.build("batching", batching, params or {}, Random(seed))
    return Instance(the_spec, policy, from_coefficients(the_spec.latency))


objectives = st.builds(
    Objective,
    name=st.sampled_from(["x", "y"]),
    ttft_s=st.none() | st.floats(0.01, 2.0),
    tpot_s=st.none() | st.floats(0.005, 0.2),
    deadline_s=st.none() | st.floats(0.1, 20.0),
)


@st.composite
def request_lists(draw: st.DrawFn, max_size: int = 12) -> list[Request]:
    """Requests some of which share a prefix."""
    shared = list(range(40))
    requests = []
    for i in range(draw(st.integers(1, max_size))):
        common = draw(st.sampled_from([0, 0, 4, 7, 16, 33]))
        own = draw(st.integers(1, 40))
        prompt = shared[:common] + [100 + i * 50 + j for j in range(own)]
        out = draw(st.integers(1, 30))
        requests.append(request(f"r{i}", prompt, out, objective=draw(objectives), arrival_s=0.0))
    return requests
