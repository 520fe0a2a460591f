"""Where a model's files are: built in, in a local folder, or in the local cache of the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fairlead.model import ModelError

NANO = "fairlead-nano"
"""The name of the model that is part of this package."""
NANO_FOLDER = Path(__file__).parents[1] / "nano"
TEXT_FILES = ("*.json", "*.jinja")
WEIGHT_FILES = ("*.safetensors",)
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def model_folder(model: str, *, weights: bool = False) -> Path:
    """The local folder with the files of `model`, downloaded first where the hub alone has them.

    `weights` asks for the safetensors files as well. Raises `ModelError` where there is none.
    """
    if model == NANO:
        return NANO_FOLDER
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(
            f"model {model!r} is a file; give the folder in Hugging Face format that holds it"
        )
    if not HUB_NAME.fullmatch(model) or model.startswith("."):
        raise ModelError(
            f"model folder {model!r} does not exist; give {NANO!r}, the path of a folder in"
            " Hugging Face format, or a hub name such as 'owner/name'"
        )
    return _hub_folder(model, weights)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file of `folder`; empty where there is no such file."""
    path = folder / name
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}; copy the model again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object; copy the model again")
    return value


def _hub_folder(model: str, weights: bool) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ModelError(
            f"there is no folder {model!r}, and to look for it on the hub the package"
            " huggingface_hub is needed; install it, or give the path of a folder"
        ) from error
    patterns = [*TEXT_FILES, *(WEIGHT_FILES if weights else ())]
    for local in (True, False):
        try:
            found = huggingface_hub.snapshot_download(
                model, allow_patterns=patterns, local_files_only=local
            )
        except Exception as error:  # its network stack raises what it likes
            failure = error
            continue
        if not local or _is_whole(Path(found), weights):
            return Path(found)
    reason = str(failure).strip().partition("\n")[0]
    raise ModelError(
        f"there is no folder {model!r}, and the hub did not give it: {reason}; check the name,"
        " the network and your hub login, or give the path of a folder"
    ) from failure


def _is_whole(folder: Path, weights: bool) -> bool:
    """Whether a cached copy can be used: an earlier, narrower download may have left a part."""
    needed = ("tokenizer.json", *(WEIGHT_FILES if weights else ()))
    return all(next(folder.glob(pattern), None) is not None for pattern in needed)
