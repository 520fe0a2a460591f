"""What is known about one model on one kind of hardware: how fast, how large, how sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fairlead.latency.accuracy import FitError
from fairlead.latency.coefficients import closed_form
from fairlead.latency.forms import Form
from fairlead.model import ConfigError


@dataclass(frozen=True, slots=True)
class Profile:
    """One model on one kind of hardware; lives as a TOML file, see `profile_file`."""

    name: str
    gpu: str
    model: str
    precision: str
    """Of the matrices: `bf16` or `fp8`."""
    tensor_parallel: int
    """GPUs of one instance."""
    gpu_memory_bytes: int
    """Of one GPU, as its driver reports it."""
    weights_bytes: int
    """Of the whole model, over all GPUs."""
    kv_bytes_per_token: int
    """Of the whole model, over all GPUs."""
    max_context: int
    """Tokens, the model's own limit."""
    coefficients: Mapping[str, float]
    """Of its latency model, see `closed_form`."""
    added: Mapping[str, float]
    """Of the coefficients, the part that a fit to kernels does not know and that was added from
    measurements of whole engines."""
    errors: Mapping[str, FitError]
    """Of the fit to kernels, on steps it had not seen, by phase: `all`, `decode`, `prefill`,
    `mixed`."""
    end_to_end: FitError | None
    """TPOT against runs of a whole engine that did not take part in setting `added`; None where
    there are none."""
    source: str
    """Where the measurements come from."""
    licence: str
    """Of the measurements."""
    host_source: str
    """How `added` was got."""
    note: str = ""
    """What is missing, and what to be careful about."""
    price_per_hour: float | None = None
    """Of one instance, all its GPUs; None where nobody said."""

    def latency_model(self) -> Form:
        return closed_form(self.coefficients)

    def n_blocks(self, block_tokens: int = 16, memory_fraction: float = 0.9) -> int:
        """KV blocks that fit beside the weights into that share of the memory.

        Real engines lose another one to three per cent to activations and captured graphs.
        """
        total_bytes = self.tensor_parallel * self.gpu_memory_bytes * memory_fraction
        block_bytes = self.kv_bytes_per_token * block_tokens
        n = int((total_bytes - self.weights_bytes) // block_bytes)
        if n < 1:
            raise ConfigError(
                f"profile {self.name!r}: {memory_fraction:g} of the memory "
                f"({total_bytes / 1e9:.1f} GB) leaves no block of {block_tokens} tokens beside "
                f"the weights ({self.weights_bytes / 1e9:.1f} GB); raise the fraction, or take a "
                "profile with more GPUs"
            )
        return n
