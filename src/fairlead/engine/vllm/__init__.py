"""vLLM in this process as an engine: its models, kernels and KV memory under our `Instance`.

vLLM's own scheduler is started with the rest and never asked. Our rows become the
`SchedulerOutput` that vLLM's model runner takes, with the block numbers of our block pool, and
what it samples comes back as our `Output`. So everything above an executor stays what it is:
batching policies, preemption, the prefix cache, reports, streams and recovery.

The other way was a scheduler class (`--scheduler-cls`) around an `Instance`. vLLM would then hold
requests, blocks, prefix hashes and detokenised streams a second time, its loop rather than ours
would say when to plan, and every report would have to be put together from both. The class is as
little a public interface as the runner's input, and there is more of it: 23 methods against one
record. (In 0.32.0 a step of ours needs the executor's `execute_model` and `sample_tokens`, and one
method of our own beside the runner, `RunnerSide.fairlead_enter`.)

Importing this package imports neither torch nor vLLM; `load` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.engine.vllm.config import VllmEngineConfig
from fairlead.engine.vllm.versions import check_version

if TYPE_CHECKING:
    from fairlead.engine.vllm.engine import VllmEngine

__all__ = ["VllmEngineConfig", "load"]


def load(config: VllmEngineConfig) -> VllmEngine:
    """vLLM with the model in memory, ready for its first step. One for each process.

    Raises `ModelError` where there is no vLLM, or one that this was not tried with, and
    `ConfigError` or `ModelError` for what vLLM will not have.
    """
    check_version()
    from fairlead.engine.vllm.core import start_core
    from fairlead.engine.vllm.engine import VllmEngine

    return VllmEngine(start_core(config), config)
