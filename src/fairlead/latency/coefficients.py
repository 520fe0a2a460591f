"""From a flat mapping of numbers, as specs and profiles carry it, to a latency model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from functools import lru_cache

from fairlead.latency.effects import Model, affected, is_of_effect
from fairlead.latency.forms import Form, Linear, ThirteenCoefficients, value_problems
from fairlead.model import ConfigError

_UNMEASURED = ("prefill_s_per_context_token", "prefill_s_per_sequence")
"""Coefficients that data without mixed steps cannot tell; see `ThirteenCoefficients`."""


def from_coefficients(mapping: Mapping[str, float | None]) -> Model:
    """The model that these coefficients describe, under the effect whose parameters are among them.

    Equal mappings share one model, and with it one cache. Raises ConfigError that names every
    problem.
    """
    form = closed_form({k: x for k, x in mapping.items() if not is_of_effect(k)})
    given = tuple(sorted((k, x) for k, x in mapping.items() if is_of_effect(k)))
    return _affected(form, given) if given else form


@lru_cache(maxsize=256)
def _affected(form: Form, given: tuple[tuple[str, float], ...]) -> Model:
    return affected(form, dict(given))


def closed_form(mapping: Mapping[str, float | None]) -> Form:
    """The form that these coefficients describe: `ThirteenCoefficients` where `weights_s` is
    among them, `Linear` otherwise.

    A coefficient left out takes its form's default. None and NaN mean "not identifiable", which
    only the two coefficients of decodes beside a prefill may be. Equal mappings share one model,
    and with it one cache. Raises ConfigError that names every problem.
    """
    form = ThirteenCoefficients if "weights_s" in mapping else Linear
    problems = _key_problems(form, mapping)
    numbers: dict[str, float] = {}
    for key, value in mapping.items():
        if value is None and key in _UNMEASURED:
            value = math.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(f"{key} is {value!r}, must be a number")
        elif not (key in _UNMEASURED and math.isnan(value)):
            numbers[key] = float(value)
    problems += value_problems(numbers)
    if problems:
        raise ConfigError(f"latency coefficients: {'; '.join(problems)}")
    return _model(form, tuple(sorted(numbers.items())))


@lru_cache(maxsize=256)
def _model(form: type[Form], numbers: tuple[tuple[str, float], ...]) -> Form:
    return form(**dict(numbers))


def _key_problems(form: type[Form], keys: Iterable[str]) -> list[str]:
    given = list(keys)
    if not given:
        return ["there are none; give base_s at least, or the name of a profile"]
    known = _names(form)
    problems = [_unknown(key, form) for key in given if key not in known]
    problems += [f"{key} is missing" for key in _required(form) if key not in given]
    return problems


def _unknown(key: str, form: type[Form]) -> str:
    near = get_close_matches(key, _names(form), n=1) or get_close_matches(
        key, _names(ThirteenCoefficients), n=1
    )
    if not near:
        return f"{key!r} is not known ({form.__name__} has {', '.join(_names(form))})"
    if near[0] == key:
        return f"{key!r} needs the form ThirteenCoefficients, which begins with weights_s"
    return f"{key!r} is not known, did you mean {near[0]!r}?"


def _names(form: type[Form]) -> list[str]:
    return [f.name for f in fields(form) if f.init]


def _required(form: type[Form]) -> list[str]:
    return [f.name for f in fields(form) if f.init and f.default is MISSING]
