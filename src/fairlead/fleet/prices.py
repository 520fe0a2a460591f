"""What steps of one instance take, each price kept for as long as it is asked for again."""

from __future__ import annotations

from functools import lru_cache

from fairlead import latency
from fairlead.latency.model import LatencyModel, StepShape
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

    __slots__ = ("_decode", "_max_sequences", "_model", "_prefill", "slowdown")

    def __init__(self, spec: InstanceSpec) -> None:
        self._model = _latency_model(tuple(spec.latency.items()))
        self._max_sequences = spec.max_sequences
        self.slowdown = 1.0
        self._decode: dict[int, tuple[float, float]] = {}
        """By batch: the context it was priced at, and the price."""
        self._prefill: tuple[int, int, int, int, float] | None = None
        """The last step with prefill: what was asked, and the price."""

    def slow_down(self, slowdown: float) -> None:
        if slowdown != self.slowdown:
            self.slowdown = slowdown
            self._decode.clear()
            self._prefill = None

    def decode_s(self, batch: int, context: float) -> float:
        """A step in which a batch with so many context tokens decodes."""
        if batch > self._max_sequences:
            batch = self._max_sequences
        kept = self._decode.get(batch)
        if kept is None or abs(kept[0] - context) > ALIKE_CONTEXT * context:
            kept = (context, self._exactly_s(batch, int(context)))
            self._decode[batch] = kept
        return kept[1]

    def stretch_s(self, batch: int, context: float, more: int) -> float:
        """By how much a step takes longer in which one of `more` context tokens decodes, too."""
        if not batch:
            return 0.0
        with_it_s = self._exactly_s(batch + 1, int(context) + more)
        return max(with_it_s - self._exactly_s(batch, int(context)), 0.0)

    def _exactly_s(self, batch: int, context: int) -> float:
        return self._model.step_s(StepShape(batch, context, 0, 0.0, 0, batch)) * self.slowdown

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
        shape = StepShape(batch, context, tokens, pairs, start + tokens, batch + 1)
        step_s = self._model.step_s(shape) * self.slowdown
        self._prefill = (batch, context, tokens, start, step_s)
        return step_s
