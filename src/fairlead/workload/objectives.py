"""Which request of a trace was promised what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from fairlead.model import BATCH, ConfigError, Objective
from fairlead.workload.draws import stream_key, uniform
from fairlead.workload.trace import TraceRow

TIME_FIELDS = ("ttft_s", "tpot_s", "deadline_s")


@dataclass(frozen=True, slots=True)
class ObjectiveMix:
    """Objective classes, and the share of a trace that is of each."""

    classes: Mapping[str, Objective] = field(default_factory=lambda: {BATCH.name: BATCH})
    default: str = BATCH.name
    """The class of whatever the mix does not claim."""
    mix: Mapping[str, float] = field(default_factory=dict)
    """Shares in (0, 1], drawn per request from the seed; they sum to at most 1."""

    def __post_init__(self) -> None:
        for name in (self.default, *self.mix):
            if name not in self.classes:
                near = get_close_matches(name, list(self.classes), n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConfigError(
                    f"no objective class is named {name!r}; known: "
                    f"{', '.join(self.classes) or 'none'}.{hint}"
                )
        for name, share in self.mix.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"the share of {name!r} must be between 0 and 1, got {share:g}.")
        if (total := math.fsum(self.mix.values())) > 1 + 1e-9:
            raise ConfigError(f"the shares of the mix sum to {total:g}; expected at most 1.")


class ObjectiveDraw:
    """Gives every row its objective; a row keeps it whatever part of the trace is played."""

    def __init__(self, mix: ObjectiveMix, seed: int) -> None:
        self._mix = mix
        self._key = stream_key(seed, "objectives")

    def objective(self, row: TraceRow) -> Objective:
        if row.objective is not None:
            return row.objective
        left = uniform(self._key, row.index)
        for name, share in self._mix.mix.items():
            left -= share
            if left < 0:
                return self._mix.classes[name]
        return self._mix.classes[self._mix.default]


def make_objective(name: str, times: Mapping[str, object]) -> Objective:
    """An objective class from a table such as `{ttft_s = 1.0, tpot_s = 0.05}`."""
    numbers: dict[str, float] = {}
    for key, value in times.items():
        if key not in TIME_FIELDS:
            near = get_close_matches(key, TIME_FIELDS, n=1, cutoff=0.3)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"objective {name!r} has no field {key!r}; known: {', '.join(TIME_FIELDS)}.{hint}"
            )
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"objective {name!r}: {key} must be a number above 0, got {value!r}.")
        numbers[key] = float(value)
    return Objective(name, **numbers)


def parse_objective(text: str) -> Objective:
    """`interactive:ttft=1,tpot=0.05` or `task:deadline=30`, in seconds; a name alone promises
    nothing."""
    name, _, fields = text.partition(":")
    times: dict[str, object] = {}
    for part in filter(None, fields.split(",")):
        key, sign, value = part.partition("=")
        try:
            times[key.strip().removesuffix("_s") + "_s"] = float(value)
        except ValueError:
            raise ConfigError(_not_objective(text)) from None
        if not sign:
            raise ConfigError(_not_objective(text))
    if not name.strip():
        raise ConfigError(_not_objective(text))
    return make_objective(name.strip(), times)


def _not_objective(text: str) -> str:
    return (
        f"--objective {text!r} is not NAME:ttft=S,tpot=S or NAME:deadline=S. "
        "Example: --objective interactive:ttft=1,tpot=0.05"
    )


def parse_mix(text: str) -> dict[str, float]:
    """`interactive=0.7,batch=0.3` as a mapping."""
    mix: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, share = part.partition("=")
        try:
            mix[name.strip()] = float(share)
        except ValueError:
            raise ConfigError(
                f"--mix: {part!r} is not NAME=SHARE. Example: --mix interactive=0.7,batch=0.3"
            ) from None
    return mix
