"""The figures of a Summary that people look at first, in words and with units: the common ground
of the terminal's table and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Run = tuple[str, Mapping[str, Any]]
"""A label, and a Summary as its JSON object."""
NONE = "–"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a comparison: a name, and what each run reached."""

    name: str
    texts: Sequence[str]
    best: int | None = None
    """The run that did best, where the figure has a better end and the runs differ."""


def figures(runs: Sequence[Run]) -> list[Figure]:
    """Outcome, goodput, attainment by class, latencies, throughput."""
    lines = [
        _line("requests", runs, ("requests", "total"), count),
        _line("finished", runs, ("requests", "finished"), count, best=max),
        *(
            _line(name, runs, ("requests", name), count, best=min)
            for name in ("rejected", "cancelled", "failed")
        ),
        _line("resumed elsewhere", runs, ("requests", "resumed"), count),
        _line("objective met", runs, ("attainment",), share, best=max),
        *_classes(runs),
        _line("goodput, requests/s", runs, ("goodput_rps",), decimal, best=max),
        _line("goodput, tokens/s", runs, ("goodput_tokens_per_s",), decimal, best=max),
        _line("output tokens/s", runs, ("output_tokens_per_s",), decimal, best=max),
        _line("prompt tokens/s", runs, ("prompt_tokens_per_s",), decimal, best=max),
        *_latencies(runs),
        _line("prompt tokens cached", runs, ("prefix_hit_ratio",), share, best=max),
        _line("preemptions", runs, ("preemptions",), count, best=min),
        _line("instances", runs, ("instances", "n_max"), count),
        _line("duration", runs, ("duration_s",), seconds),
    ]
    return [line for line in lines if _worth_a_line(line)]


def _worth_a_line(line: Figure) -> bool:
    always = ("requests", "finished", "rejected", "failed", "objective met")
    return line.name in always or any(text not in (NONE, "0") for text in line.texts)


def _classes(runs: Sequence[Run]) -> list[Figure]:
    names = dict.fromkeys(name for _, summary in runs for name in summary["classes"])
    if len(names) < 2:
        return []
    return [
        _line(f"  {name}", runs, ("classes", name, "attainment"), share, best=max) for name in names
    ]


def _latencies(runs: Sequence[Run]) -> list[Figure]:
    return [
        _line(f"{name} {point}", runs, (key, point), seconds, best=min)
        for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("end to end", "e2e_s"))
        for point in ("p50", "p90", "p99")
    ]


def _line(
    name: str,
    runs: Sequence[Run],
    keys: Sequence[str],
    text: Callable[[float | None], str],
    best: Callable[[list[float]], float] | None = None,
) -> Figure:
    values = [value_at(summary, *keys) for _, summary in runs]
    texts = [text(value) for value in values]
    return Figure(name, texts, _best(values, texts, best) if best else None)


def _best(
    values: Sequence[float | None],
    texts: Sequence[str],
    choose: Callable[[list[float]], float],
) -> int | None:
    measured = [value for value in values if value is not None]
    if len(measured) < 2 or len(set(texts)) == 1:
        return None
    place = values.index(choose(measured))
    return place if texts.count(texts[place]) == 1 else None


def driver_facts(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the figures came about: what the load client or the simulator says of itself."""
    return summary.get("client") or summary.get("simulation") or {}


def value_at(summary: Mapping[str, Any], *keys: str) -> float | None:
    """The number under these keys; None where there is none."""
    value: Any = summary
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def count(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}%"


def decimal(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """Three figures, in the unit that suits them."""
    if value is None:
        return NONE
    if value >= 0.9995:
        return f"{value:,.0f} s" if value >= 99.95 else f"{value:.3g} s"
    if 0 < value < 0.0009995:
        return f"{1e6 * value:.3g} µs"
    return f"{1000 * value:.3g} ms" if value else "0 s"


def objective_text(times: Mapping[str, float | None]) -> str:
    """`TTFT 1 s, TPOT 50 ms`."""
    names = (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("deadline", "deadline_s"))
    parts = [f"{name} {seconds(times[key])}" for name, key in names if times.get(key) is not None]
    return ", ".join(parts) or "no time objective"
