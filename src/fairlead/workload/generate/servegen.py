"""ServeGen: a service's load as the sum of its clients, each with rates and lengths of its own.

Paper: Xiang et al., "ServeGen: Workload Characterization and Generation of Large Language Model
Serving in Production", 2025.
Rule:  in each ten-minute window a client sends as many requests as were counted there, their gaps
drawn from the law that was fitted to it, and their lengths from what it was seen to send in those
six hours; the clients' requests are then put in order of time.

The gaps of a window are drawn for its count and then stretched to fill it, so that rates are met
exactly, also where a law is so heavy-tailed that ten minutes never show its mean. The gaps of such
a client are a little calmer than published, since none is longer than a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import gamma

import numpy as np
from numpy.typing import NDArray

from fairlead.model import ConfigError
from fairlead.workload.columns import Floats, Ints, TraceColumns
from fairlead.workload.generate.lengths import Empirical, whole_tokens
from fairlead.workload.generate.streams import stream

WINDOW_S = 600.0
"""Seconds of a window of the rates."""
PART_ROWS = 32_768
EXTRAS = ("image", "audio", "video")
"""What a prompt may hold beside text: so many, each of so many tokens."""


@dataclass(frozen=True, slots=True)
class Rates:
    """One row for each client and window, sorted by window and client."""

    client: Ints
    start_s: Floats
    rate_rps: Floats
    is_gamma: NDArray[np.bool_]
    """A Gamma law; else Weibull."""
    shape: Floats

    @property
    def end_s(self) -> float:
        return float(self.start_s.max()) + WINDOW_S

    def mean_rps(self, window_s: tuple[float, float]) -> float:
        """Requests per second of all clients, over this part of the time."""
        overlap_s = np.minimum(self.start_s + WINDOW_S, window_s[1])
        overlap_s = np.clip(overlap_s - np.maximum(self.start_s, window_s[0]), 0, None)
        return float((self.rate_rps * overlap_s).sum() / (window_s[1] - window_s[0]))


@dataclass(frozen=True, slots=True)
class Lengths:
    """What clients were seen to send: by client, then by window, then by field."""

    seen: Mapping[int, Mapping[float, Mapping[str, Empirical]]]

    def of(self, client: int, start_s: float) -> Mapping[str, Empirical]:
        """Of the window nearest in time; the client must be there."""
        windows = self.seen[client]
        return windows[min(windows, key=lambda at_s: (abs(at_s - start_s), at_s))]


@dataclass(frozen=True, slots=True)
class ServeGen:
    """The load of one service between two times of its recording; the first becomes 0."""

    rates: Rates
    lengths: Lengths
    window_s: tuple[float, float]
    seed: int = 0
    rate_rps: float | None = None
    """Mean rate; None keeps the published one."""
    lenders: Mapping[int, int] = field(init=False)
    """Clients whose lengths are not published, and whose they take: of the one with lengths that
    is nearest in mean rate."""

    def __post_init__(self) -> None:
        if self.rates.mean_rps(self.window_s) <= 0:
            raise ConfigError(
                f"--window {self.window_s[0]:g}:{self.window_s[1]:g} holds no request; the rates "
                f"cover {self.rates.start_s.min():g} to {self.rates.end_s:g} s."
            )
        object.__setattr__(self, "lenders", _lenders(self.rates, self.lengths))

    @property
    def mean_rps(self) -> float:
        return self.rate_rps or self.rates.mean_rps(self.window_s)

    def parts(self) -> Iterator[TraceColumns]:
        """The requests in order of arrival; one window is held at a time."""
        index = 0
        for start_s in np.unique(self.rates.start_s).tolist():
            if start_s + WINDOW_S <= self.window_s[0] or start_s >= self.window_s[1]:
                continue
            for part in self._window(start_s):
                n = len(part[0])
                yield TraceColumns(
                    np.arange(index, index + n),
                    part[0] - self.window_s[0],
                    part[1],
                    part[2],
                    others={"tenant": [f"c{client}" for client in part[3].tolist()]},
                )
                index += n

    def _window(self, start_s: float) -> Iterator[tuple[Floats, Ints, Ints, Ints]]:
        rates, factor = self.rates, self._factor()
        drawn = []
        for place in np.flatnonzero(rates.start_s == start_s).tolist():
            rng = stream(self.seed, f"client {rates.client[place]} at {start_s:g}")
            expected = rates.rate_rps[place] * WINDOW_S * factor
            n = int(expected + (rng.random() if factor != 1 else 0.5))
            # Rounding must not carry a request into the next window.
            end_s = np.nextafter(start_s + WINDOW_S, 0)
            times = np.minimum(start_s + self._times(place, n, rng), end_s)
            prompt, output = self._lengths(int(rates.client[place]), start_s, n, rng)
            drawn.append((times, prompt, output, np.full(n, rates.client[place])))
        times, prompt, output, client = (
            np.concatenate(column) for column in zip(*drawn, strict=True)
        )
        order = np.argsort(times, kind="stable")
        first, last = np.searchsorted(times[order], self.window_s).tolist()
        order = order[first:last]
        for cut in range(0, len(order), PART_ROWS):
            chosen = order[cut : cut + PART_ROWS]
            yield times[chosen], prompt[chosen], output[chosen], client[chosen]

    def _factor(self) -> float:
        if self.rate_rps is None:
            return 1.0
        return self.rate_rps / self.rates.mean_rps(self.window_s)

    def _times(self, place: int, n: int, rng: np.random.Generator) -> Floats:
        """`n` times between 0 and the length of a window."""
        shape = float(self.rates.shape[place])
        if self.rates.is_gamma[place]:
            gaps = rng.gamma(shape, size=n + 1)
        else:
            gaps = rng.weibull(shape, size=n + 1) / gamma(1 + 1 / shape)
        # The window begins somewhere inside a gap.
        gaps[0] *= rng.random()
        total = gaps.sum()
        if not 0 < total < np.inf:
            return np.sort(rng.random(n)) * WINDOW_S
        return np.asarray(np.cumsum(gaps[:-1]) * (WINDOW_S / total), dtype=np.float64)

    def _lengths(
        self, client: int, start_s: float, n: int, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        seen = self.lengths.of(self.lenders.get(client, client), start_s)
        text = seen.get("input_tokens") or seen["text_tokens"]
        prompt = text.draw(rng, n)
        for kind in EXTRAS:
            if f"{kind}_count" in seen and f"{kind}_tokens" in seen:
                prompt += _extra_tokens(seen[f"{kind}_count"], seen[f"{kind}_tokens"], rng, n)
        return whole_tokens(prompt), whole_tokens(seen["output_tokens"].draw(rng, n))


def _extra_tokens(count: Empirical, tokens: Empirical, rng: np.random.Generator, n: int) -> Floats:
    """Tokens of all images (or the like) of each request."""
    counts = count.draw(rng, n).astype(np.int64)
    sums = np.concatenate([[0.0], np.cumsum(tokens.draw(rng, int(counts.sum())))])
    ends = np.cumsum(counts)
    return np.asarray(sums[ends] - sums[ends - counts], dtype=np.float64)


def _lenders(rates: Rates, lengths: Lengths) -> dict[int, int]:
    clients, which = np.unique(rates.client, return_inverse=True)
    loads = dict(zip(clients.tolist(), np.bincount(which, rates.rate_rps).tolist(), strict=True))
    able = [client for client in loads if client in lengths.seen]
    if not able:
        raise ConfigError("no client has both rates and lengths; are the files of one service?")
    return {
        client: min(able, key=lambda other: (abs(loads[other] - load), other))
        for client, load in loads.items()
        if client not in lengths.seen
    }
