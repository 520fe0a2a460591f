"""vLLM's own scheduler behind the few calls that the comparison needs.

Nothing of the model is loaded: the scheduler and its KV manager are Python, and all they want to
know of a model is a configuration file of a few lines.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from tests.vllm.cases import STOP_TOKEN, Asked, Case, Decision, Share

MAX_CONTEXT = 4096
TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 1000,
    "max_position_embeddings": MAX_CONTEXT,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@cache
def model_config(folder: Path) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(TINY_LLAMA))
    return ModelConfig(
        model=str(folder), skip_tokenizer_init=True, dtype="float32", max_model_len=MAX_CONTEXT
    )


class VllmSide:
    """One scheduler of vLLM's, with synchronous steps: plan, run, take in."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._case = case
        # Block 0 is vLLM's placeholder and never given out.
        n_blocks = case.n_blocks + 1
        config = VllmConfig(
            model_config=model_config(folder),
            cache_config=CacheConfig(
                block_size=case.block_tokens, enable_prefix_caching=case.prefix_caching
            ),
            scheduler_config=SchedulerConfig(
                max_num_seqs=case.max_sequences,
                max_num_batched_tokens=case.step_tokens,
                max_model_len=MAX_CONTEXT,
                is_encoder_decoder=False,
                scheduler_reserve_full_isl=case.whole_prompt,
                async_scheduling=False,
            ),
        )
        config.cache_config.num_gpu_blocks = n_blocks
        attention = FullAttentionSpec(
            block_size=case.block_tokens, num_kv_heads=1, head_size=1, dtype=torch.float32
        )
        self._scheduler = Scheduler(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(
                num_blocks=n_blocks,
                kv_cache_tensors=[],
                kv_cache_groups=[KVCacheGroupSpec(["layer"], attention)],
            ),
            structured_output_manager=StructuredOutputManager(config),
            block_size=case.block_tokens,
        )
        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(case.block_tokens, sha256)
        self._output: Any = None

    def submit(self, asked: Asked) -> None:
        self._scheduler.add_request(
            Request(
                request_id=asked.id,
                prompt_token_ids=list(asked.prompt),
                sampling_params=SamplingParams(
                    max_tokens=asked.max_tokens, stop_token_ids=[STOP_TOKEN]
                ),
                pooling_params=None,
                block_hasher=self._hasher if self._case.prefix_caching else None,
            )
        )

    def abort(self, id: str) -> None:
        self._scheduler.finish_requests(id, RequestStatus.FINISHED_ABORTED)

    def plan(self) -> Decision:
        output = self._output = self._scheduler.schedule()
        starts = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        cached = output.scheduled_cached_reqs
        starts |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        return Decision(
            rows={id: Share(starts[id], n) for id, n in output.num_scheduled_tokens.items()},
            running=[request.request_id for request in self._scheduler.running],
            preempted=sorted(output.preempted_req_ids or ()),
            free_blocks=self._scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
        )

    def commit(self, tokens: dict[str, int]) -> None:
        """`tokens` are those of rows that reached the end of what was known."""
        ids = list(self._output.num_scheduled_tokens)
        self._scheduler.update_from_output(
            self._output,
            ModelRunnerOutput(
                req_ids=ids,
                req_id_to_index={id: i for i, id in enumerate(ids)},
                sampled_token_ids=[[tokens[id]] if id in tokens else [] for id in ids],
            ),
        )

    @property
    def unfinished(self) -> list[str]:
        return sorted(self._scheduler.requests)
