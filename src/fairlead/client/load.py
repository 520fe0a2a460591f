"""The load of every instance, read from a gateway's `/metrics` while a trace is played."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from fairlead.workload.curves import LoadSample
from fairlead.workload.summary import InstanceFigures

POLL_S = 1.0
MAX_SAMPLES = 200_000
"""Some twelve megabytes; then every second sample goes, and polling slows down by two."""

_LINE = re.compile(r"^(fairlead_[a-z_]+)(?:\{([^}]*)\})? +(\S+)", re.MULTILINE)
_INSTANCE = re.compile(r'(?:^|,)\s*instance="((?:[^"\\]|\\.)*)"')
_GAUGES = {
    "fairlead_instance_running": "running",
    "fairlead_instance_waiting": "waiting",
    "fairlead_instance_kv_fraction": "kv_fraction",
    "fairlead_instance_kv_tokens": "kv_tokens",
    "fairlead_instance_kv_bytes_per_token": "kv_bytes_per_token",
}
_COUNTERS = (
    "fairlead_preemptions_total",
    "fairlead_resumed_total",
    "fairlead_handoffs_total",
)


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """What one reading of `/metrics` says about load."""

    instances: Mapping[str, Mapping[str, float]]
    counters: Mapping[str, float]
    """Totals over all labels."""


def parse_metrics(text: str) -> MetricsPage:
    """Picks the load of instances and a few totals out of Prometheus' text format."""
    instances: dict[str, dict[str, float]] = {}
    counters: dict[str, float] = {}
    for name, labels, number in _LINE.findall(text):
        try:
            value = float(number)
        except ValueError:
            continue
        if name in _GAUGES and (label := _INSTANCE.search(labels)):
            instances.setdefault(label[1], {})[_GAUGES[name]] = value
        elif name in _COUNTERS:
            counters[name] = counters.get(name, 0.0) + value
    return MetricsPage(instances, counters)


@dataclass(slots=True)
class LoadSeries:
    """Samples of the run so far, and the totals at its first and latest reading."""

    samples: list[LoadSample] = field(default_factory=list)
    first: MetricsPage | None = None
    latest: MetricsPage | None = None
    n_max: int = 0
    instance_s: float = 0.0
    """Instance-seconds."""
    poll_s: float = POLL_S
    _last_s: float | None = None

    def add(self, page: MetricsPage, t_s: float) -> None:
        if self.first is None:
            self.first = page
        if self._last_s is not None and self.latest is not None:
            self.instance_s += (t_s - self._last_s) * len(self.latest.instances)
        self.latest, self._last_s = page, t_s
        self.n_max = max(self.n_max, len(page.instances))
        for name, load in page.instances.items():
            self.samples.append(
                LoadSample(
                    t_s,
                    name,
                    load.get("running", 0.0),
                    load.get("waiting", 0.0),
                    load.get("kv_fraction"),
                )
            )
        if len(self.samples) > MAX_SAMPLES:
            moments = sorted({sample.t_s for sample in self.samples})[::2]
            kept = set(moments)
            self.samples = [sample for sample in self.samples if sample.t_s in kept]
            self.poll_s *= 2

    def counted(self, name: str) -> int | None:
        """How much a total grew during the run; None where the server does not count it."""
        if self.first is None or self.latest is None or name not in self.latest.counters:
            return None
        return round(self.latest.counters[name] - self.first.counters.get(name, 0.0))

    @property
    def instances(self) -> InstanceFigures:
        if not self.n_max:
            return InstanceFigures()
        return InstanceFigures(n_max=self.n_max, hours=self.instance_s / 3600)


async def poll_load(
    session: aiohttp.ClientSession, url: str, series: LoadSeries, clock: Callable[[], float]
) -> None:
    """Reads once, then every second until cancelled. Gives up where there are no such metrics; a
    reading that fails in between is left out."""
    while True:
        text = await _read(session, url)
        if text is None and series.first is None:
            return
        if text is not None:
            page = parse_metrics(text)
            if series.first is None and not page.instances and not page.counters:
                return
            series.add(page, clock())
        await asyncio.sleep(series.poll_s)


async def read_once(
    session: aiohttp.ClientSession, url: str, series: LoadSeries, clock: Callable[[], float]
) -> None:
    """A last reading, so that totals cover the whole run."""
    if series.first is not None and (text := await _read(session, url)) is not None:
        series.add(parse_metrics(text), clock())


async def read_page(session: aiohttp.ClientSession, url: str) -> MetricsPage | None:
    """What a gateway's `/metrics` says now; None where there are none."""
    text = await _read(session, url)
    return None if text is None else parse_metrics(text)


async def _read(session: aiohttp.ClientSession, url: str) -> str | None:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=5)) as reply:
            return await reply.text() if reply.status == 200 else None
    except (aiohttp.ClientError, OSError, UnicodeDecodeError):
        return None
