"""Which part of a trace is played, and how fast. Nothing here ever changes the order of rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain

from fairlead.model import ConfigError
from fairlead.workload.columns import TraceColumns
from fairlead.workload.generate.arrivals import Poisson, Process, each, parse_process, text_of
from fairlead.workload.generate.lengths import Distribution
from fairlead.workload.generate.lengths import text_of as lengths_text
from fairlead.workload.generate.streams import stream
from fairlead.workload.parts import drawn, extent, limited, retimed, windowed
from fairlead.workload.sessions import ASSUMED_TPOT_S, THINK, Sessions
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
    """Stretches arrival times to this mean rate. Where the trace has none, or a process is named,
    arrivals are drawn at this rate; of sessions it is the rate at which they start."""
    speed: float = 1.0
    """Time runs this many times as fast, gaps inside sessions too."""
    process: str | None = None
    """What arrivals are drawn from, as in `gamma:cv=3`, instead of the trace's own. None draws
    Poisson arrivals where the trace has none."""
    think: Distribution | None = None
    """Seconds between the calls of a session where the trace says nothing of them."""

    def __post_init__(self) -> None:
        for name, value in (
            ("rate", self.rate_rps),
            ("speed", self.speed),
            ("scale", self.lengths),
        ):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"--{name} must be above 0, got {value:g}.")
        if self.process is not None:
            parse_process(self.process, self.rate_rps)
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit must be at least 1, got {self.limit}.")
        if self.window_s is not None and not self.window_s[0] < self.window_s[1]:
            a, b = self.window_s
            raise ConfigError(f"--window {a:g}:{b:g} is empty; the first time must be the smaller.")


class ShapedTrace:
    """A trace with its shape applied: rows whose first arrives at 0, and how they got their times.

    With `closed_loop`, a trace of sessions without a common clock is played call by call: `rows`
    are the first calls, and `follow` tells the next (see `sessions`). Without, and for any other
    trace, `rows` are all there is. `timed=False` is for those who need no arrival times at all (so
    many streams, one request after another)."""

    def __init__(
        self,
        trace: Trace,
        shape: Shape,
        seed: int = 0,
        timed: bool = True,
        closed_loop: bool = False,
    ) -> None:
        self.trace = trace
        self.shape = shape
        self._seed = seed
        self._timed = timed
        self.closed_loop = closed_loop and timed and has_sessions(trace)
        """Whether calls wait for one another."""
        if timed and not trace.has_arrivals and self._process() is None:
            raise ConfigError(_no_arrivals(trace, self.closed_loop))
        if shape.window_s is not None and not trace.has_arrivals:
            raise ConfigError(
                f"--window needs arrival times, and {trace.path} has none; --limit takes its first "
                "rows."
            )
        self.extent = extent(self._selected(_SESSIONS if self.closed_loop else ()))
        if self.extent.n_rows == 0:
            raise ConfigError(_nothing_left(trace, shape))
        self._sessions = self._make_sessions() if self.closed_loop else None

    @property
    def n_rows(self) -> int:
        """All requests to be played, later calls of sessions too."""
        return self.extent.n_rows

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first arrival to the last; None where it is drawn or not timed."""
        if not self._timed or not self._keeps_times:
            return None
        return (self.extent.last_s - self.extent.first_s) * self._stretch()

    @property
    def arrivals(self) -> str:
        """How the rows got their times, in words, for whoever reads the figures."""
        if not self._timed:
            return "none (closed loop)"
        process = self._process()
        if process is None:
            stretch = self._stretch()
            return "trace" if stretch == 1 else f"trace, times multiplied by {stretch:.6g}"
        name, _, values = text_of(process).partition(":")
        how = " ".join([name, *values.split(",")[1:]])
        unit = " sessions/s" if self.closed_loop else "/s"
        text = f"{how}, {process.rate * self.shape.speed:g}{unit}, seed {self._seed}"
        if self.closed_loop:
            return f"{text}; each later call follows the end of the one before: {self._gaps()}"
        return f"{text} (sessions overlap as they come)" if has_sessions(self.trace) else text

    def rows(self) -> Iterator[TraceRow]:
        """The rows to play whose arrival is known, in order."""
        if self._sessions is not None:
            return self._sessions.rows()
        return chain.from_iterable(part.rows() for part in self.parts())

    def follow(self, row: TraceRow, ended_s: float) -> TraceRow | None:
        """The next call of its session now that this one has ended, see `Arrivals`."""
        return None if self._sessions is None else self._sessions.follow(row, ended_s)

    def parts(self) -> Iterator[TraceColumns]:
        """All rows with their shape, some at a time as columns. In a closed loop without times."""
        parts = self._selected(None)
        if self.shape.lengths != 1:
            parts = (part.with_lengths_times(self.shape.lengths) for part in parts)
        if not self._timed or self.closed_loop:
            return parts
        process = self._process()
        if process is not None:
            return drawn(parts, self._starts(process))
        return retimed(parts, self.extent.first_s, self._stretch())

    def _make_sessions(self) -> Sessions:
        process = self._process()
        assert process is not None
        return Sessions(
            self.parts,
            lambda: self._starts(process),
            lambda: stream(self._seed, "think"),
            think=self.shape.think or THINK,
            speed=self.shape.speed,
            together=self.extent.together,
            assumed_tpot_s=ASSUMED_TPOT_S / self.shape.lengths,
        )

    def _starts(self, process: Process) -> Iterator[float]:
        """Arrivals from 0 on."""
        times = each(process, stream(self._seed, "arrivals"))
        first_s = next(times)
        speed = self.shape.speed
        yield 0.0
        for time_s in times:
            yield (time_s - first_s) / speed

    def _process(self) -> Process | None:
        """What arrivals are drawn from; None where the trace's own are kept."""
        if self._keeps_times:
            return None
        rate_rps = self.shape.rate_rps
        if self.shape.process is not None:
            return parse_process(self.shape.process, rate_rps)
        return None if rate_rps is None else Poisson(rate_rps)

    @property
    def _keeps_times(self) -> bool:
        return self.trace.has_arrivals and self.shape.process is None

    def _gaps(self) -> str:
        if self.trace.has("tool_gap_s"):
            return "gaps of the trace"
        if self.trace.has("session_t_s"):
            return "gaps guessed from the times of the calls"
        return f"think times {lengths_text(self.shape.think or THINK)} seconds"

    def _selected(self, only: Collection[str] | None) -> Iterator[TraceColumns]:
        return selected(self.trace, self.shape, only)

    def _stretch(self) -> float:
        if self.shape.rate_rps is None or math.isinf(self.extent.rate_rps):
            return 1 / self.shape.speed
        return self.extent.rate_rps / self.shape.rate_rps / self.shape.speed


def selected(
    trace: Trace, shape: Shape, only: Collection[str] | None = None
) -> Iterator[TraceColumns]:
    """The rows of the shape's window, up to its limit; `only` as in `Trace.parts`."""
    if shape.window_s is None:
        return trace.parts(only, shape.limit)
    return limited(windowed(trace.parts(only), shape.window_s), shape.limit)


_SESSIONS = ("session_id",)


def has_sessions(trace: Trace) -> bool:
    """True for calls in sessions whose starts nobody knows."""
    return not trace.has_arrivals and trace.has("session_id")


def parse_window(text: str) -> tuple[float, float]:
    """`A:B` in seconds; either side may be left out."""
    first, sign, last = text.partition(":")
    try:
        if not sign:
            raise ValueError
        return float(first or 0), float(last or "inf")
    except ValueError:
        raise ConfigError(f"--window {text!r} is not A:B in seconds. Example: 60:120") from None


def _no_arrivals(trace: Trace, closed_loop: bool) -> str:
    if closed_loop:
        return (
            f"{trace.path} holds sessions and does not know when they start, so it must be chosen: "
            "--rate R starts R sessions a second (Poisson arrivals from the seed); each later call "
            "follows the end of the one before."
        )
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
