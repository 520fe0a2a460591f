"""What vLLM is to be started with: the pool's settings, and the user's own engine arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fairlead.model import ConfigError
from fairlead.text import NANO, model_folder

OURS = {
    "model": "model",
    "tokenizer": "model",
    "dtype": "dtype",
    "block_size": "block_tokens",
    "num_gpu_blocks_override": "n_blocks",
    "kv_cache_memory_bytes": "kv_gib",
    "max_num_seqs": "max_sequences",
    "max_model_len": "max_context",
    "scheduling_policy": "policy.batching",
}
"""Arguments of vLLM's that a key of the fleet file stands for, and which."""
NEVER = {
    "scheduler_cls": "our Instance decides what a step is",
    "async_scheduling": "a step is planned when the one before it is known",
    "enable_prefix_caching": "prefixes are cached by our Instance",
    "enable_chunked_prefill": "the batching policy cuts prompts",
    "long_prefill_token_threshold": "the batching policy cuts prompts",
    "worker_extension_cls": "it is ours",
    "speculative_config": "our steps have one token for each sequence",
    "spec_method": "our steps have one token for each sequence",
    "spec_model": "our steps have one token for each sequence",
    "spec_tokens": "our steps have one token for each sequence",
    "kv_transfer_config": "hand-offs are Fairlead's",
    "data_parallel_size": "every instance is a worker of its own: set instances",
    "pipeline_parallel_size": "one step runs at a time",
    "enable_lora": "there are no adapters yet",
    "skip_tokenizer_init": "texts are made by our tokenizer",
}
"""Arguments that nobody may set, and why."""


@dataclass(frozen=True, slots=True)
class VllmEngineConfig:
    """Checked at construction, as far as that goes without vLLM; all problems in one
    `ConfigError`."""

    model: str
    """`fairlead-nano`, a local folder in Hugging Face format, or a hub name."""
    eos_token_ids: frozenset[int] = frozenset()
    """Tokens that end an answer, by the tokenizer that the gateway has too."""
    dtype: str = "auto"
    """auto is the model's own; else what vLLM takes, such as float32 or bfloat16."""
    threads: int | None = None
    block_tokens: int = 16
    n_blocks: int | None = None
    """KV blocks; None takes as many as fit into `kv_bytes`."""
    kv_bytes: int | None = None
    """None leaves it to vLLM: a share of the device's memory (`gpu_memory_utilization`)."""
    max_sequences: int = 256
    max_context: int | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of vLLM's, by the names that its `EngineArgs` has for them."""

    def __post_init__(self) -> None:
        if problems := engine_args_problems(self.engine_args):
            raise ConfigError("; ".join(problems))

    def arguments(self, known: Iterable[str]) -> dict[str, Any]:
        """For an `EngineArgs` whose names are `known`. Raises `ConfigError`."""
        known = list(known)
        for name in self.engine_args:
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"engine_args: this vLLM has no argument {name!r}{hint}")
        return {
            "use_tqdm_on_load": False,
            "max_logprobs": -1,  # The gateway has a cap of its own.
            "disable_hybrid_kv_cache_manager": True,  # One kind of block is all that we count.
            **self.engine_args,
            "model": self._source(),
            "skip_tokenizer_init": True,
            "dtype": self.dtype,
            "block_size": self.block_tokens,
            # vLLM's block 0 belongs to nobody, and is none of ours.
            "num_gpu_blocks_override": None if self.n_blocks is None else self.n_blocks + 1,
            "kv_cache_memory_bytes": self.kv_bytes,
            "max_num_seqs": self.max_sequences,
            "max_model_len": self._max_context(),
            "enable_prefix_caching": False,
            "async_scheduling": False,
            "disable_log_stats": True,
            "worker_extension_cls": "fairlead.engine.vllm.runner_side.RunnerSide",
        }

    def _max_context(self) -> int:
        """What fits into memory, as far as that is known; -1 lets vLLM find out."""
        if self.max_context is None or self.n_blocks is None:
            return self.max_context or -1
        return min(self.max_context, self.n_blocks * self.block_tokens)

    def _source(self) -> str:
        """A folder where there is one; else vLLM downloads what it wants."""
        is_here = self.model == NANO or Path(self.model).expanduser().is_dir()
        return str(model_folder(self.model)) if is_here else self.model


def engine_args_problems(engine_args: Mapping[str, Any]) -> list[str]:
    """What is wrong with them that can be told without vLLM."""
    problems = [
        f"engine_args.{name} is for {ours} to say"
        for name, ours in OURS.items()
        if name in engine_args
    ]
    problems += [
        f"engine_args.{name} cannot be set: {why}"
        for name, why in NEVER.items()
        if name in engine_args
    ]
    return problems
