"""What steps of one instance take, each price kept for as long as it is asked for again."""

from __future__ import annotations

from functools import lru_cache

from fairlead import latency
from fairlead.latency.forms import ThirteenCoefficients
from fairlead.latency.model import LatencyModel, StepShape
from fairlead.latency.price import Price
from fairlead.model import InstanceSpec

ALIKE_CONTEXT = 0.03
"""A decode step keeps its price while the context stays within this fraction."""


@lru_cache(maxsize=256)
def _latency_model(coefficients: tuple[tuple[str, float], ...]) -> LatencyModel:
    """Equal instances share a model, with the prices that it remembers: a decision looks at all of
    them, and what a thousand of them share stays in the processor's cache."""
    return latency.from_coefficients(dict(coefficients))


class StepPrices:
    """Times in seconds, at the slowdown that the instance last told of."""

    __slots__ = (
        "_decode",
        "_last_batch",
        "_last_context",
        "_last_s",
        "_max_sequences",
        "_model",
        "_prefill",
        "_price",
        "slowdown",
    )

    def __init__(self, spec: InstanceSpec) -> None:
        self._model = _latency_model(tuple(spec.latency.items()))
        self._price: Price | None = None
        """Of the usual form, asked without a detour."""
        if isinstance(self._model, ThirteenCoefficients):
            self._price = self._model.price
        self._max_sequences = spec.max_sequences
        self.slowdown = 1.0
        self._decode: dict[int, tuple[float, float]] = {}
        """By batch: the context it was priced at, and the price."""
        self._last_batch, self._last_context, self._last_s = -1, 0.0, 0.0
        """The one that was asked for last: a thousand dicts are a long walk through memory."""
        self._prefill: tuple[int, int, int, int, float] | None = None
        """The last step with prefill: what was asked, and the price."""

    def slow_down(self, slowdown: float) -> None:
        if slowdown != self.slowdown:
            self.slowdown = slowdown
            self._decode.clear()
            self._last_batch = -1
            self._prefill = None

    def decode_s(self, batch: int, context: float) -> float:
        """A step in which a batch with so many context tokens decodes."""
        if batch > self._max_sequences:
            batch = self._max_sequences
        far = ALIKE_CONTEXT * context
        if batch == self._last_batch and -far <= self._last_context - context <= far:
            return self._last_s
        kept = self._decode.get(batch)
        if kept is None or not -far <= kept[0] - context <= far:
            kept = (context, self._exactly_s(batch, int(context)))
            self._decode[batch] = kept
        self._last_batch = batch
        self._last_context, self._last_s = kept
        return self._last_s

    def stretch_s(self, batch: int, context: float, more: int) -> float:
        """By how much a step takes longer in which one of `more` context tokens decodes, too."""
        if not batch:
            return 0.0
        with_it_s = self._exactly_s(batch + 1, int(context) + more)
        return max(with_it_s - self._exactly_s(batch, int(context)), 0.0)

    def _exactly_s(self, batch: int, context: int) -> float:
        return self._step_s(batch, context, 0, 0.0, 0, batch)

    def _step_s(
        self, decodes: int, context: int, tokens: int, pairs: float, longest: int, sampled: int
    ) -> float:
        if self._price is not None:
            step_s = self._price.step_s(decodes, context, tokens, pairs, longest, sampled)
        else:
            shape = StepShape(decodes, context, tokens, pairs, longest, sampled)
            step_s = self._model.step_s(shape)
        return step_s * self.slowdown

    def prefill_s(self, batch: int, context: int, tokens: int, start: int) -> float:
        """A step in which that batch decodes and `tokens` of a prompt are computed from `start`."""
        kept = self._prefill
        if (
            kept is not None
            and kept[0] == batch
            and kept[1] == context
            and kept[2] == tokens
            and kept[3] == start
        ):
            return kept[4]
        pairs = tokens * (start + tokens / 2)
        step_s = self._step_s(batch, context, tokens, pairs, start + tokens, batch + 1)
        self._prefill = (batch, context, tokens, start, step_s)
        return step_s
