"""Memory, file descriptors and processes of the fleet while it runs, and whether they grow."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import psutil

from soaking.fleet import Fleet

SAMPLE_S = 1.0
WARM_UP = 0.4
"""Of the last gateway's life: caches fill, and Python's memory finds its size."""
MIN_WATCHED_S = 300.0
"""Of a gateway that was watched for less, memory is shown and not judged: its caches still fill."""
MIN_SETTLED_S = 60.0
"""So with files and processes: clients may just have come, and a worker just have died."""
MAX_GROWTH = 0.05
MAX_GROWTH_MB = 4.0
"""What memory may gain while it is watched: this part of it, or so much, whichever is more."""
MAX_MORE_FILES = 8


@dataclass(frozen=True, slots=True)
class Sample:
    at_s: float
    """Since the run began."""
    gateway_pid: int
    rss_mb: float
    files: int
    processes: int
    """Of the whole fleet."""
    seats: int
    """Answers that clients wait for."""


class Gauges:
    def __init__(self, fleet: Fleet, seats: Callable[[], int]) -> None:
        self.samples: list[Sample] = []
        self._fleet = fleet
        self._seats = seats
        self._begun_s = time.monotonic()

    def sample(self) -> None:
        gateway = self._fleet.gateway
        if gateway is None:
            return
        with contextlib.suppress(psutil.Error):
            self.samples.append(
                Sample(
                    time.monotonic() - self._begun_s,
                    gateway.pid,
                    gateway.memory_info().rss / 1e6,
                    gateway.num_fds(),
                    len(self._fleet.processes()),
                    self._seats(),
                )
            )

    def steady(self) -> list[Sample]:
        """Of the last gateway, once it was warm and as long as it had clients."""
        pid = self.samples[-1].gateway_pid if self.samples else 0
        last = [s for s in self.samples if s.gateway_pid == pid and s.seats]
        return last[int(len(last) * WARM_UP) :]

    def as_json(self) -> list[dict[str, float]]:
        return [asdict(sample) for sample in self.samples]


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through the samples."""

    median: float
    growth: float
    """From the first to the last."""
    lasted_s: float

    @property
    def per_hour(self) -> float:
        return self.growth * 3600 / self.lasted_s if self.lasted_s else 0.0


def trend(samples: Sequence[Sample], of: Callable[[Sample], float]) -> Trend:
    values = [of(sample) for sample in samples]
    times = [sample.at_s for sample in samples]
    if len(values) < 2:
        return Trend(values[0] if values else 0.0, 0.0, 0.0)
    line = statistics.linear_regression(times, values)
    lasted_s = times[-1] - times[0]
    return Trend(statistics.median(values), line.slope * lasted_s, lasted_s)
