"""Starts vLLM: its own engine core loads the model, sizes the KV memory and warms up.

Of the core we use the executor, which runs steps, and what its memory turned out to be. Its
scheduler and its loop stay idle.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import torch

from fairlead.engine.vllm.config import VllmEngineConfig
from fairlead.engine.vllm.memory import FIRST_BLOCK
from fairlead.model import ConfigError, ModelError

ENVIRONMENT = {
    # The runner that we know. vLLM takes the newer one where it can.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    # The model in this process, where one is enough.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
DEFAULTS = {
    # Else every worker of a machine binds itself to the first core.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # The worker's own lines go there, and nobody reads the other stream.
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


@dataclass(frozen=True, slots=True)
class Core:
    """What we keep, and what we want to know."""

    engine_core: Any
    """vLLM's. Its `model_executor` runs steps."""
    n_blocks: int
    """With vLLM's own first one."""
    block_tokens: int
    kv_token_bytes: int
    max_context: int
    vocab_size: int
    most_tokens: int
    """That vLLM computes in one pass."""
    device: str

    def runner(self) -> Any:
        """vLLM's model runner, where it is in this process; else None."""
        executor = self.engine_core.model_executor
        is_here = self.engine_core.vllm_config.parallel_config.world_size == 1
        return executor.driver_worker.worker.model_runner if is_here else None


def start_core(config: VllmEngineConfig) -> Core:
    """Raises `ModelError` or `ConfigError` where vLLM does not start, or not as it must."""
    os.environ.update(ENVIRONMENT)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        core = _engine_core(config)
    except (ConfigError, ModelError):
        raise
    except Exception as error:  # vLLM raises what its libraries do.
        said = str(error).rstrip(".") + _hint(str(error), config)
        raise ModelError(f"vLLM does not start with {config.model!r}: {said}") from error
    return _checked(core, config)


def _hint(said: str, config: VllmEngineConfig) -> str:
    """What the user can do about it in our terms."""
    if "block size" in said:
        return (
            f"; the pool's block_tokens is {config.block_tokens}, and every kernel takes some "
            "only (on CPUs multiples of 32)"
        )
    if "memory" in said:
        return "; in our terms: set the pool's kv_gib or n_blocks, or a smaller max_context"
    return ""


def _engine_core(config: VllmEngineConfig) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.executor import Executor

    known = [field.name for field in dataclasses.fields(EngineArgs)]
    vllm_config = EngineArgs(**config.arguments(known)).create_engine_config()
    if config.n_blocks is not None:
        # So many, whatever share of the memory that is.
        n_bytes = (config.n_blocks + FIRST_BLOCK) * config.block_tokens * _token_bytes(vllm_config)
        vllm_config.cache_config.kv_cache_memory_bytes = n_bytes
    return EngineCore(vllm_config, Executor.get_class(vllm_config), log_stats=False)


def _token_bytes(vllm_config: Any) -> int:
    """KV of a token, at most."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    heads: int = model.get_num_kv_heads(parallel)
    layers: int = model.get_num_layers(parallel)
    size: int = model.get_head_size()
    itemsize: int = model.dtype.itemsize
    return 2 * layers * heads * size * itemsize


def _checked(core: Any, config: VllmEngineConfig) -> Core:
    from vllm.platforms import current_platform

    vllm_config, memory = core.vllm_config, core.scheduler.kv_cache_config
    if vllm_config.use_v2_model_runner:
        raise ConfigError("engine_args ask for vLLM's second model runner, which is not supported")
    if len(memory.kv_cache_groups) != 1 or memory.needs_kv_cache_zeroing:
        raise ModelError(
            f"{config.model!r} keeps more in memory than the KV of full attention (such as the "
            'state of Mamba layers), which Fairlead cannot count; use engine = "openai" for it'
        )
    block_tokens = vllm_config.cache_config.block_size
    if block_tokens != config.block_tokens:
        raise ConfigError(
            f"vLLM keeps the KV of {config.model!r} in blocks of {block_tokens} tokens on this "
            f"machine; set block_tokens = {block_tokens}, got {config.block_tokens}"
        )
    kv_bytes = sum(tensor.size for tensor in memory.kv_cache_tensors)
    return Core(
        engine_core=core,
        n_blocks=memory.num_blocks,
        block_tokens=block_tokens,
        kv_token_bytes=kv_bytes // (memory.num_blocks * block_tokens),
        max_context=vllm_config.model_config.max_model_len,
        vocab_size=vllm_config.model_config.get_vocab_size(),
        most_tokens=vllm_config.scheduler_config.max_num_batched_tokens,
        device=current_platform.device_type,
    )
