"""What a way of running steps makes of their price: by name, with parameters that stand in one flat
mapping with the coefficients, as specs carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from fairlead.latency.forms import Form, Linear
from fairlead.latency.nanoflow import Nanoflow
from fairlead.latency.semi_pd import SemiPd
from fairlead.model import ConfigError

Effect = Nanoflow | SemiPd
Model = Form | Effect
"""Every latency model there is."""
NO_EFFECT = "none"
EMULATED = "emulated"
EFFECTS: Mapping[str, type[Effect]] = {"nanoflow": Nanoflow, "semi-pd": SemiPd}


def parameters(name: str) -> dict[str, float]:
    """An effect's parameters, and their defaults."""
    mine = (f for f in fields(EFFECTS[name]) if f.init and f.name != "form")
    return {f.name: float(f.default) for f in mine}  # type: ignore[arg-type]


def key_of(name: str, parameter: str) -> str:
    """Of the parameter in a flat mapping, such as `semi_pd_decode_share`."""
    return f"{name.replace('-', '_')}_{parameter}"


PURE_NUMBERS = frozenset(
    {"sharpness", *(key_of(name, one) for name in EFFECTS for one in parameters(name))}
)
"""What is not a time among all that may stand in a flat mapping."""


def is_of_effect(key: str) -> bool:
    """Whether a key of a flat mapping is a parameter of an effect, right or wrong."""
    return any(key.startswith(key_of(name, "")) for name in EFFECTS)


def affected(form: Form, numbers: Mapping[str, float]) -> Model:
    """The form under the effect that these parameters, with their keys in a flat mapping, are of.
    Raises ConfigError."""
    names = [name for name in EFFECTS if any(k.startswith(key_of(name, "")) for k in numbers)]
    if not names:
        return form
    if len(names) > 1:
        raise ConfigError(f"there can be one effect, not {' and '.join(names)}")
    (name,) = names
    given = {key.removeprefix(key_of(name, "")): value for key, value in numbers.items()}
    if problems := effect_problems(name, given):
        raise ConfigError("; ".join(problems))
    return EFFECTS[name](form=form, **given)


def with_effect(
    coefficients: Mapping[str, float], name: str, given: Mapping[str, Any]
) -> dict[str, float]:
    """The coefficients of an engine that runs its steps that way. Raises ConfigError."""
    if problems := effect_problems(name, given):
        raise ConfigError("; ".join(problems))
    added = {} if name == NO_EFFECT else {**parameters(name), **given}
    return {**coefficients, **{key_of(name, one): float(x) for one, x in added.items()}}


def effect_problems(name: str, given: Mapping[str, Any], engine: str = EMULATED) -> list[str]:
    """What is wrong with an effect as a user wrote it for such an engine."""
    if name == NO_EFFECT:
        return ["effect_params are given, and no effect"] if given else []
    if name not in EFFECTS:
        known = (NO_EFFECT, *EFFECTS)
        return [f"effect must be one of {', '.join(known)}, got {name!r}{_hint(name, known)}"]
    known = tuple(parameters(name))
    if engine != EMULATED:
        return [f"effect {name} changes what an emulated engine's steps cost; this one is {engine}"]
    problems = [
        f"effect {name} has no parameter {key!r}{_hint(key, known)} (it has {', '.join(known)})"
        for key in given
        if key not in known
    ]
    problems += [
        f"effect {name}: {key} is {value!r}, must be a number"
        for key, value in given.items()
        if isinstance(value, bool) or not isinstance(value, int | float)
    ]
    return problems or _value_problems(name, given)


def _hint(wrong: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(wrong, known, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _value_problems(name: str, given: Mapping[str, float]) -> list[str]:
    try:
        EFFECTS[name](form=Linear(base_s=1.0), **given)
    except ConfigError as error:
        return [str(error)]
    return []
