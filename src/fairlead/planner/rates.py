"""Which request rates are asked for: some for all traces, some for one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import PurePath

from fairlead.model import ConfigError


def parse_rates(texts: Sequence[str], traces: Sequence[str]) -> dict[str, list[float | None]]:
    """The rates of each trace, in ascending order, from texts such as `100,150` and
    `mooncake_conversation=10,15`. A trace without any gets None: its own pace."""
    if len(set(traces)) < len(traces):
        raise ConfigError("a trace is given twice.")
    general: list[float] = []
    own: dict[str, list[float]] = {}
    for text in texts:
        name, sign, numbers = text.rpartition("=")
        target = own.setdefault(_find(name, traces), []) if sign else general
        target += _numbers(text, numbers)
    found: dict[str, list[float | None]] = {}
    for trace in traces:
        rates = sorted(set(own.get(trace, general)))
        found[trace] = [*rates] if rates else [None]
    return found


def _numbers(text: str, numbers: str) -> list[float]:
    try:
        found = [float(number) for number in numbers.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(rate > 0 and math.isfinite(rate) for rate in found):
        raise ConfigError(
            f"--rate {text!r} is no list of rates above 0. "
            "Examples: --rate 100,150 or --rate mooncake_conversation=10,15"
        )
    return found


def _find(name: str, traces: Sequence[str]) -> str:
    """The trace of that name, path, or file name without its ending."""
    named = {trace: trace for trace in traces} | {PurePath(t).stem: t for t in traces}
    if name in named:
        return named[name]
    near = get_close_matches(name, named, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"given are {', '.join(traces)}."
    raise ConfigError(f"--rate names a trace {name!r} that is not given; {hint}")
