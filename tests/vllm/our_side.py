"""Our instance behind the same calls."""

from __future__ import annotations

from random import Random

from fairlead.instance import Instance
from fairlead.latency import from_coefficients
from fairlead.memory import chain_hashes
from fairlead.model import (
    FinishReason,
    InstanceId,
    InstanceSpec,
    Request,
    RequestId,
    Step,
    StepResult,
)
from fairlead.policies import registry
from tests.vllm.cases import STOP_TOKEN, Asked, Case, Decision, Share


class OurSide:
    def __init__(self, case: Case) -> None:
        self._case = case
        spec = InstanceSpec(
            id=InstanceId("a"),
            pool="p",
            model="m",
            n_blocks=case.n_blocks,
            block_tokens=case.block_tokens,
            max_sequences=case.max_sequences,
            max_waiting=1000,
            max_context=4096,
            latency={"base_s": 0.01},
        )
        params = {"step_tokens": case.step_tokens, "whole_prompt": case.whole_prompt}
        policy = registry.build("batching", "fcfs", params, Random(0))
        self._instance = Instance(spec, policy, from_coefficients(spec.latency))
        self._step: Step | None = None

    def submit(self, asked: Asked) -> None:
        known = self._case.prefix_caching
        request = Request(
            id=RequestId(asked.id),
            arrival_s=0.0,
            prompt_tokens=len(asked.prompt),
            max_tokens=asked.max_tokens,
            token_ids=asked.prompt if known else (),
            block_hashes=chain_hashes(asked.prompt, self._case.block_tokens) if known else (),
        )
        assert self._instance.submit(request, 0.0) is None

    def abort(self, id: str) -> None:
        self._instance.abort(RequestId(id), 0.0)

    def plan(self) -> Decision:
        before = {one.id: one.n_preemptions for one in self._instance.sequences.values()}
        step = self._step = self._instance.plan(0.0)
        rows = step.rows if step is not None else ()
        planner = self._instance.planner
        return Decision(
            rows={row.request: Share(row.start, row.n) for row in rows},
            running=[sequence.id for sequence in planner.running],
            preempted=sorted(
                id
                for id, sequence in self._instance.sequences.items()
                if sequence.n_preemptions > before[id]
            ),
            free_blocks=planner.pool.n_available,
        )

    def commit(self, tokens: dict[str, int]) -> None:
        if self._step is None:
            return
        brought = {RequestId(id): [token] for id, token in tokens.items()}
        stopped = {id: FinishReason.STOP for id, token in brought.items() if token == [STOP_TOKEN]}
        self._instance.commit(self._step, StepResult(brought, 1, stopped), 0.0)
        self._instance.check_invariants()

    def ends(self) -> dict[str, int]:
        """Of each row that reaches the end of what is known: the position of its next token."""
        rows = self._step.rows if self._step is not None else ()
        sequences = self._instance.sequences
        return {row.request: sequences[row.request].n_produced for row in rows if row.samples}

    @property
    def hit_tokens(self) -> int:
        """Prompt tokens found in the prefix cache so far."""
        return self._instance.planner.hit_tokens

    @property
    def unfinished(self) -> list[str]:
        return sorted(self._instance.sequences)
