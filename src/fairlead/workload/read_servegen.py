"""Reads the two Parquet files of a ServeGen service: `NAME_rates` and `NAME_lengths`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairlead.model import ConfigError
from fairlead.workload.generate.lengths import Empirical
from fairlead.workload.generate.servegen import Lengths, Rates
from fairlead.workload.read_parquet import read_table

RATES = ("client_id", "window_start_s", "rate_rps", "iat_family", "iat_shape")
LENGTHS = ("client_id", "window_start_s", "field", "values", "counts")
FAMILIES = ("Gamma", "Weibull")


def read_servegen(name: str) -> tuple[Rates, Lengths]:
    """`../traces/servegen_m_small` names both files. Raises `ConfigError`."""
    for ending in ("_rates.parquet", "_lengths.parquet", "_rates", "_lengths", "_"):
        name = name.removesuffix(ending)
    return _rates(f"{name}_rates.parquet"), _lengths(f"{name}_lengths.parquet")


def _rates(path: str) -> Rates:
    table = read_table(path, RATES)
    families = np.array(table["iat_family"])
    for family in sorted(set(families.tolist()) - set(FAMILIES)):
        raise ConfigError(f"{path}: iat_family is {family!r}, expected {' or '.join(FAMILIES)}.")
    start_s, rate_rps, shape = (
        _column(path, table, name) for name in ("window_start_s", "rate_rps", "iat_shape")
    )
    client = _column(path, table, "client_id").astype(np.int64)
    if len(client) == 0 or (rate_rps < 0).any() or (shape <= 0).any():
        raise ConfigError(f"{path} holds no rates, or one below 0, or a law with a shape of 0.")
    order = np.lexsort((client, start_s))
    is_gamma = families == "Gamma"
    return Rates(client[order], start_s[order], rate_rps[order], is_gamma[order], shape[order])


def _column(path: str, table: dict[str, Any], name: str) -> Any:
    try:
        numbers = np.array(table[name], dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{path}: {name} holds something that is no number.") from None
    if not np.isfinite(numbers).all():
        raise ConfigError(f"{path}: {name} holds something that is no finite number.")
    return numbers


def _lengths(path: str) -> Lengths:
    table = read_table(path, LENGTHS)
    seen: dict[int, dict[float, dict[str, Empirical]]] = {}
    for client, start_s, field, values, counts in zip(*(table[n] for n in LENGTHS), strict=True):
        if not values or len(values) != len(counts) or sum(counts) <= 0 or min(counts) < 0:
            raise ConfigError(f"{path}: client {client} at {start_s}: impossible {field}.")
        law = Empirical.of(np.array(values), np.array(counts, dtype=np.int64))
        seen.setdefault(int(client), {}).setdefault(float(start_s), {})[str(field)] = law
    for client, windows in seen.items():
        for start_s, fields in windows.items():
            if "output_tokens" not in fields or not {"input_tokens", "text_tokens"} & set(fields):
                raise ConfigError(f"{path}: client {client} at {start_s:g} lacks a length.")
    return Lengths(seen)
