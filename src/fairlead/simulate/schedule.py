"""When faults happen, and whom they befall: drawn from the seed, each from a stream of its own, so
that one fault more leaves the others where they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import merge
from random import Random

from fairlead.simulate.faults import Burst, Timed, TimedOne
from fairlead.workload.trace import TraceRow


def moments(fault: Timed, stream: str) -> Iterator[float]:
    """The times at which it happens, one after the other; perhaps without end."""
    if fault.at_s is not None:
        yield fault.at_s
        return
    assert fault.every_s is not None
    rng, time_s = Random(stream), fault.from_s
    while (time_s := time_s + rng.expovariate(1 / fault.every_s)) < fault.until_s:
        yield time_s


def victims(fault: TimedOne, stream: str, instances: Sequence[str]) -> list[str]:
    """The instances that it befalls."""
    if fault.instance:
        return [fault.instance]
    if fault.every_s is not None:
        return list(instances)
    return [Random(f"{stream} victim").choice(list(instances))] if instances else []


class Bursts:
    """Moves arrivals: during a burst a trace runs `factor` times as fast, and after it goes on
    from where it then is."""

    def __init__(self, bursts: Sequence[Burst], seed: int) -> None:
        windows = (_windows(burst, f"{seed} burst {i}") for i, burst in enumerate(bursts))
        self._windows = merge(*windows)
        self._next = next(self._windows, None)
        self._trace_s = self._run_s = 0.0
        """A moment of the trace, and when it is in the run; not after the next burst."""

    def apply(self, rows: Iterable[TraceRow]) -> Iterator[TraceRow]:
        for row in rows:
            yield replace(row, arrival_s=self.when(row.arrival_s or 0.0))

    def when(self, trace_s: float) -> float:
        """The time in the run; asked for moments of the trace in their order."""
        while self._next is not None:
            start_s, for_s, factor = self._next
            start_s = max(start_s, self._run_s)  # One that overlaps another begins after it.
            start_trace_s = self._trace_s + start_s - self._run_s
            if trace_s <= start_trace_s:
                break
            end_trace_s = start_trace_s + for_s * factor
            if trace_s <= end_trace_s:
                return start_s + (trace_s - start_trace_s) / factor
            self._trace_s, self._run_s = end_trace_s, start_s + for_s
            self._next = next(self._windows, None)
        return self._run_s + trace_s - self._trace_s


def _windows(burst: Burst, stream: str) -> Iterator[tuple[float, float, float]]:
    return ((start_s, burst.for_s, burst.factor) for start_s in moments(burst, stream))
