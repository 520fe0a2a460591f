"""Weights into memory: an unmodified transformers class whose attention is ours."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import AttentionInterface, AutoModelForCausalLM

from fairlead.engine.attention import NAME, attend
from fairlead.engine.models import ModelFacts
from fairlead.engine.pool import KvShape
from fairlead.model import ConfigError, ModelError


def choose_device(name: str) -> torch.device:
    """Raises `ConfigError` where CUDA is asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for, but torch sees none; use device 'cpu'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        name = "bfloat16" if device.type == "cuda" else "float32"
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def load_model(facts: ModelFacts, dtype: torch.dtype, device: torch.device) -> Any:
    """The model, ready to be called with a plan. Raises `ModelError` where its files are broken."""
    AttentionInterface.register(NAME, attend)
    _quiet()
    model, report = _from_pretrained(facts, dtype)
    for what in ("missing_keys", "mismatched_keys"):
        if report[what]:
            names = ", ".join(str(key) for key in sorted(report[what])[:3])
            raise ModelError(
                f"model folder {facts.folder}: the weights do not fit its config.json "
                f"({len(report[what])} {what.replace('_', ' ')}, such as {names})"
            )
    return model.to(device).eval().requires_grad_(False)


def _from_pretrained(facts: ModelFacts, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    load: Any = AutoModelForCausalLM.from_pretrained
    try:
        model, report = load(
            facts.folder,
            dtype=dtype,
            attn_implementation=NAME,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a broken folder makes its many readers raise
        raise ModelError(f"model folder {facts.folder} cannot be loaded: {error}") from error
    return model, report


def _quiet() -> None:
    """No progress bars and advice on a worker's terminal."""
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def kv_shape(model: Any, dtype: torch.dtype) -> KvShape:
    config = model.config
    head_dim = getattr(config, "head_dim", None)
    return KvShape(
        layers=config.num_hidden_layers,
        heads=config.num_key_value_heads,
        head_dim=head_dim or config.hidden_size // config.num_attention_heads,
        dtype=dtype,
    )
