"""Where a model lies, and whether this engine can serve it: all that is known before torch is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fairlead
from fairlead.model import ModelError

NANO = "fairlead-nano"
"""The built-in model."""

FAMILIES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Model types whose output is tested to equal that of transformers, and their architecture."""

STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings that depend on a token's position alone. The others (dynamic, longrope) also
look at the longest sequence of the batch, so that neighbours would change a request's output."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
_SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's folder says about it."""

    folder: Path
    family: str
    max_context: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]


def resolve_model(name: str) -> Path:
    """The folder that holds a model: the built-in one, a local one, or a download from the hub.

    Raises `ModelError` where there is none.
    """
    if name == NANO:
        return Path(fairlead.__file__).parent / "nano"
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"model {name!r} is a file; expected a folder in Hugging Face format")
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise ModelError(
            f"model {name!r}: there is no such folder; expected {NANO}, a local folder in "
            "Hugging Face format, or a hub name such as Qwen/Qwen3-0.6B"
        )
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    try:
        import huggingface_hub

        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:
        raise ModelError(
            f"model {name!r} is not a folder here, and could not be fetched from the hub "
            f"({_first_line(error)}); check the name and the connection, or give the path of a "
            "local folder"
        ) from error


def read_facts(folder: Path) -> ModelFacts:
    """Facts of a model that this engine can serve. Raises `ModelError` for any other."""
    config = _read_json(folder, "config.json")
    _check_supported(folder, config)
    if not sorted(folder.glob("*.safetensors")):
        raise ModelError(f"model folder {folder} holds no *.safetensors file with weights")
    return ModelFacts(
        folder=folder,
        family=config["model_type"],
        max_context=_positive(folder, config, "max_position_embeddings"),
        vocab_size=_positive(folder, config, "vocab_size"),
        eos_token_ids=_eos_token_ids(folder, config),
    )


def fingerprint(folder: Path) -> str:
    """Equal for equal configurations and weights.

    Weights are compared by name, size and three samples of each file, not in full: enough to tell
    checkpoints and fine-tunes apart at no cost, no defence against forgery.
    """
    digest = hashlib.sha256(json.dumps(_read_json(folder, "config.json"), sort_keys=True).encode())
    for path in sorted(folder.glob("*.safetensors")):
        size_bytes = path.stat().st_size
        digest.update(f"{path.name} {size_bytes}\n".encode())
        with path.open("rb") as file:
            for offset in (0, size_bytes // 2, max(0, size_bytes - _SAMPLE_BYTES)):
                file.seek(offset)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]


def _check_supported(folder: Path, config: Mapping[str, Any]) -> None:
    family = config.get("model_type")
    architectures = config.get("architectures") or [FAMILIES.get(str(family))]
    if family not in FAMILIES or architectures != [FAMILIES[family]]:
        raise ModelError(
            f"model folder {folder} is of architecture {_named(architectures, family)}; "
            f"the embedded engine serves {', '.join(FAMILIES.values())}"
        )
    for what in _unsupported(config):
        raise ModelError(f"model folder {folder} needs {what}, which the embedded engine lacks")


def _named(architectures: object, family: object) -> str:
    names = architectures if isinstance(architectures, list) else [architectures]
    return ", ".join(str(name) for name in names if name) + f" (model_type {family!r})"


def _unsupported(config: Mapping[str, Any]) -> list[str]:
    """Features that would change the output, and that we do not have."""
    found = []
    if config.get("use_sliding_window") and config.get("sliding_window"):
        found.append("sliding-window attention")
    if any(kind != "full_attention" for kind in config.get("layer_types") or ()):
        found.append("layers other than full attention")
    if config.get("attn_logit_softcapping"):
        found.append("soft-capped attention")
    if config.get("quantization_config"):
        found.append("quantised weights")
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    if kind not in STATIC_ROPE:
        found.append(f"{kind!r} rotary scaling")
    return found


def _eos_token_ids(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """As `generate` finds them: the generation config's, else the config's."""
    found = None
    if (folder / "generation_config.json").exists():
        found = _read_json(folder, "generation_config.json").get("eos_token_id")
    if found is None:
        found = config.get("eos_token_id")
    ids = found if isinstance(found, list) else [] if found is None else [found]
    return tuple(int(token) for token in ids)


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"model folder {folder} holds no {name}; is it a model?") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{folder / name} must hold a JSON object")
    return content


def _positive(folder: Path, config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"{folder / 'config.json'}: {key} must be a positive number, is {value!r}")
    return value


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
