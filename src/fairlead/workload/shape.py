"""Which part of a trace is played, and how fast. Nothing here ever changes the order of rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from fairlead.model import ConfigError
from fairlead.workload.draws import stream_key, uniform
from fairlead.workload.trace import Trace, TraceRow


@dataclass(frozen=True, slots=True)
class Shape:
    """What to play of a trace; the fields apply in this order."""

    window_s: tuple[float, float] | None = None
    """Rows that arrive at or after the first time and before the second, on the trace's clock."""
    limit: int | None = None
    """Most rows, from the first."""
    lengths: float = 1.0
    """Prompts and outputs are this many times as long, at least one token."""
    rate_rps: float | None = None
    """Stretches arrival times to this mean rate; where the trace has none, draws Poisson ones."""
    speed: float = 1.0
    """Time runs this many times as fast."""

    def __post_init__(self) -> None:
        for name, value in (
            ("rate", self.rate_rps),
            ("speed", self.speed),
            ("scale", self.lengths),
        ):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"--{name} must be above 0, got {value:g}.")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit must be at least 1, got {self.limit}.")
        if self.window_s is not None and not self.window_s[0] < self.window_s[1]:
            a, b = self.window_s
            raise ConfigError(f"--window {a:g}:{b:g} is empty; the first time must be the smaller.")


@dataclass(frozen=True, slots=True)
class Extent:
    """How many rows there are, and when the first and the last arrive."""

    n_rows: int
    first_s: float
    last_s: float

    @property
    def rate_rps(self) -> float:
        """Mean rate: gaps over the time they take; infinite where all arrive at once."""
        span_s = self.last_s - self.first_s
        return (self.n_rows - 1) / span_s if span_s > 0 else math.inf


class ShapedTrace:
    """A trace with its shape applied: rows whose first arrives at 0, and how they got their times.

    `timed=False` is for those who need no arrival times (a closed loop)."""

    def __init__(self, trace: Trace, shape: Shape, seed: int = 0, timed: bool = True) -> None:
        self.trace = trace
        self.shape = shape
        self._seed = seed
        self._timed = timed
        if timed and not trace.has_arrivals and shape.rate_rps is None:
            raise ConfigError(_no_arrivals(trace))
        if shape.window_s is not None and not trace.has_arrivals:
            raise ConfigError(f"--window needs arrival times, and {trace.path} has none.")
        self.extent = extent(self._selected())
        if self.extent.n_rows == 0:
            raise ConfigError(_nothing_left(trace, shape))

    @property
    def n_rows(self) -> int:
        return self.extent.n_rows

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first arrival to the last; None where it is drawn or not timed."""
        if not self._timed or not self.trace.has_arrivals:
            return None
        return (self.extent.last_s - self.extent.first_s) * self._stretch()

    @property
    def arrivals(self) -> str:
        """How the rows got their times, in words, for whoever reads the figures."""
        if not self._timed:
            return "none (closed loop)"
        if not self.trace.has_arrivals:
            kind = " (sessions overlap as they come)" if self.trace.has_sessions_only else ""
            return f"poisson, {self.shape.rate_rps:g}/s, seed {self._seed}{kind}"
        stretch = self._stretch()
        return "trace" if stretch == 1 else f"trace, times multiplied by {stretch:.6g}"

    def rows(self) -> Iterator[TraceRow]:
        """The rows to play, in order."""
        rows: Iterator[TraceRow] = self._selected()
        if self.shape.lengths != 1:
            rows = scaled(rows, self.shape.lengths)
        if not self._timed:
            return rows
        if not self.trace.has_arrivals:
            assert self.shape.rate_rps is not None
            return poisson(rows, self.shape.rate_rps * self.shape.speed, self._seed)
        return retimed(rows, self.extent.first_s, self._stretch())

    def _selected(self) -> Iterator[TraceRow]:
        rows = windowed(self.trace.rows(), self.shape.window_s)
        return islice(rows, self.shape.limit)

    def _stretch(self) -> float:
        if self.shape.rate_rps is None or math.isinf(self.extent.rate_rps):
            return 1 / self.shape.speed
        return self.extent.rate_rps / self.shape.rate_rps / self.shape.speed


def windowed(rows: Iterable[TraceRow], window_s: tuple[float, float] | None) -> Iterator[TraceRow]:
    """Rows that arrive inside the window; reading stops at its end."""
    for row in rows:
        if window_s is not None and row.arrival_s is not None:
            if row.arrival_s >= window_s[1]:
                return
            if row.arrival_s < window_s[0]:
                continue
        yield row


def extent(rows: Iterable[TraceRow]) -> Extent:
    """Counts the rows and finds the first and last arrival."""
    n = 0
    first_s = last_s = 0.0
    for row in rows:
        last_s = row.arrival_s or 0.0
        if n == 0:
            first_s = last_s
        n += 1
    return Extent(n, first_s, last_s)


def retimed(rows: Iterable[TraceRow], first_s: float, stretch: float) -> Iterator[TraceRow]:
    """The same rows, the first at 0 and all gaps multiplied by `stretch`."""
    for row in rows:
        assert row.arrival_s is not None
        yield replace(row, arrival_s=(row.arrival_s - first_s) * stretch)


def poisson(rows: Iterable[TraceRow], rate_rps: float, seed: int) -> Iterator[TraceRow]:
    """The same rows, the first at 0, with exponential gaps drawn from the seed."""
    key = stream_key(seed, "arrivals")
    now_s = 0.0
    for n, row in enumerate(rows):
        if n:
            now_s -= math.log1p(-uniform(key, n)) / rate_rps
        yield replace(row, arrival_s=now_s)


def scaled(rows: Iterable[TraceRow], factor: float) -> Iterator[TraceRow]:
    """The same rows with lengths multiplied, prefix blocks included, so that sharing stays."""
    for row in rows:
        yield replace(
            row,
            prompt_tokens=max(1, round(row.prompt_tokens * factor)),
            output_tokens=max(1, round(row.output_tokens * factor)),
            hash_block_tokens=max(1, round(row.hash_block_tokens * factor)) if row.hash_ids else 0,
        )


def parse_window(text: str) -> tuple[float, float]:
    """`A:B` in seconds; either side may be left out."""
    first, sign, last = text.partition(":")
    try:
        if not sign:
            raise ValueError
        return float(first or 0), float(last or "inf")
    except ValueError:
        raise ConfigError(f"--window {text!r} is not A:B in seconds. Example: 60:120") from None


def _no_arrivals(trace: Trace) -> str:
    why = (
        "knows times inside each session (session_t_s), but not when sessions start"
        if trace.has_sessions_only
        else "has no arrival times"
    )
    return (
        f"{trace.path} {why}, so arrivals must be chosen: --rate R draws Poisson arrivals of R "
        "requests a second from the seed, in the order of the file; --concurrency N ignores "
        "arrival times and keeps N streams going."
    )


def _nothing_left(trace: Trace, shape: Shape) -> str:
    skipped = "; ".join(f"{n} rows where {why}" for why, n in trace.skipped.items())
    window = (
        f" in the window {shape.window_s[0]:g}:{shape.window_s[1]:g} s" if shape.window_s else ""
    )
    return f"{trace.path} has no row to play{window}." + (
        f" Left out: {skipped}." if skipped else ""
    )
