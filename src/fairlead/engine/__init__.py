"""The embedded engine: turns the rows of a Step into tokens with torch and transformers.

It holds the weights and the KV memory and has no policy: which sequence runs how many tokens, in
which blocks, is decided by the `Instance`. Importing this package does not import torch; `load`
does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.engine.config import EngineConfig
from fairlead.engine.output import Output, TokenLogprobs
from fairlead.model import ModelError

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

__all__ = ["EngineConfig", "Output", "TokenLogprobs", "load"]


def load(config: EngineConfig) -> Engine:
    """An engine with its weights in memory, ready for its first step.

    Raises `ModelError` where torch is not installed or the model cannot be served.
    """
    try:
        from fairlead.engine.engine import Engine
    except ModuleNotFoundError as error:
        # What is installed but breaks when it is imported has no name.
        missing = f"needs {error.name}, which is not installed" if error.name else f"fails: {error}"
        raise ModelError(
            f"the embedded engine {missing}; run: pip install 'fairlead[engine]'"
        ) from error
    return Engine(config)
