"""Our end inside vLLM's worker, beside its model runner: mixed into vLLM's worker class by its
`worker_extension_cls`, called by `collective_rpc`, in as many processes as the model takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams


class Arrival(NamedTuple):
    """A sequence that the runner has not met."""

    name: str
    prompt: list[int]
    produced: list[int]
    params: SamplingParams


class TokenGenerator(torch.Generator):
    """Seeded anew for every token, so that it does not matter how far the last one took it.

    The runner winds a generator back where a chunk of a prompt drew for nothing, which one of the
    CPU's cannot (vLLM 0.32.0 breaks down there, with a seed and a prompt in chunks).
    """

    def get_offset(self) -> int:
        return 0

    def set_offset(self, offset: int) -> TokenGenerator:
        return self


class RunnerSide:
    """See the module. Names begin with `fairlead_`, so that none hides one of vLLM's."""

    model_runner: Any

    def fairlead_enter(self, arrivals: Seq[Arrival], seeds: Mapping[str, int]) -> None:
        """The runner knows the arrivals, as it would know who was preempted before: with the
        tokens that they have produced, which a new request of vLLM's cannot bring. And those of
        `seeds` draw their next token from this seed alone."""
        for arrival in arrivals:
            self.model_runner.requests[arrival.name] = self._fairlead_state(arrival)
        for name, seed in seeds.items():
            self.model_runner.requests[name].generator.manual_seed(seed)

    def _fairlead_state(self, arrival: Arrival) -> Any:
        from vllm.sampling_params import SamplingType
        from vllm.v1.worker.gpu_input_batch import CachedRequestState

        runner, params = self.model_runner, arrival.params
        drawn = params.sampling_type is SamplingType.RANDOM_SEED
        state = CachedRequestState(
            req_id=arrival.name,
            prompt_token_ids=arrival.prompt,
            mm_features=[],
            sampling_params=params,
            generator=TokenGenerator(device=runner.device) if drawn else None,
            block_ids=([],),
            num_computed_tokens=0,
            output_token_ids=arrival.produced,
        )
        if runner.uses_mrope:
            runner._init_mrope_positions(state)
        return state
