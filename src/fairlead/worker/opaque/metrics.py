"""What a server's `/metrics` page says of its load, by the names that vLLM, SGLang and llama.cpp
have for it. Reads text, asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_NAMES: Mapping[str, tuple[str, ...]] = {
    "running": (
        "vllm:num_requests_running",
        "sglang:num_running_reqs",
        "llamacpp:requests_processing",
    ),
    "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred"),
    "kv_fraction": (
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
        "sglang:token_usage",
        "llamacpp:kv_cache_usage_ratio",
    ),
    "preemptions": ("vllm:num_preemptions_total", "sglang:num_retracted_reqs"),
    "kv_tokens": ("sglang:max_total_num_tokens",),
}
"""Our names for theirs, the newer ones first. All but the fraction are sums over a server's
data-parallel ranks."""
_CONFIG = "vllm:cache_config_info"


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """None where the page does not say."""

    running: int | None = None
    waiting: int | None = None
    kv_fraction: float | None = None
    """Of its KV memory, in use by requests."""
    preemptions: int | None = None
    kv_tokens: int | None = None
    """What its KV memory holds."""


class _Sample(NamedTuple):
    name: str
    labels: str
    value: float


def read_load(page: str) -> ServerLoad:
    """What the page says; names that nobody knows are passed over."""
    samples = list(_samples(page))
    fractions = _values(samples, "kv_fraction")
    kv_tokens = _sum(samples, "kv_tokens")
    return ServerLoad(
        running=_sum(samples, "running"),
        waiting=_sum(samples, "waiting"),
        kv_fraction=max(fractions) if fractions else None,
        preemptions=_sum(samples, "preemptions"),
        kv_tokens=_kv_tokens(samples) if kv_tokens is None else kv_tokens,
    )


def _samples(page: str) -> Iterator[_Sample]:
    for name, labels, value in _LINE.findall(page):
        try:
            number = float(value)
        except ValueError:
            continue
        if number == number and abs(number) < float("inf"):
            yield _Sample(name, labels, number)


def _values(samples: list[_Sample], ours: str) -> list[float]:
    for theirs in _NAMES[ours]:
        if found := [sample.value for sample in samples if sample.name == theirs]:
            return found
    return []


def _sum(samples: list[_Sample], ours: str) -> int | None:
    values = _values(samples, ours)
    return max(round(sum(values)), 0) if values else None


def _kv_tokens(samples: list[_Sample]) -> int | None:
    """vLLM writes its memory into the labels of a constant, once for each of its ranks."""
    total = 0
    for sample in samples:
        if sample.name == _CONFIG:
            labels = dict(_LABEL.findall(sample.labels))
            n_blocks, block = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
            if n_blocks.isdecimal() and block.isdecimal():
                total += int(n_blocks) * int(block)
    return total or None
