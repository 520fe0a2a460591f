"""Reject at arrival what the decode side could not take once the prompt is computed.

Paper: "Mooncake: A KVCache-centric Disaggregated Architecture for LLM Serving", early rejection
       based on prediction.
Rule:  the prompt is computed at the least predicted TTFT. Who decodes then: of all who wait for
       prefill or decode now, the share that should have begun by then and not have ended. A
       request is rejected if the mean time per output token of so large a batch is above `most`
       times the promised one, or its first token later than `most` times.

An admitted request should begin at the TTFT that was predicted for it, and decode, as in the paper,
for one time that all share: that of an answer of the length now expected, at the highest pace that
is admitted. How the pace follows the batch no view tells; it is learnt. State, by pool that
decodes: begins and ends until they have passed, and the line of the pace. Limit: a first rush into
an empty fleet overshoots, as no length and little of the line is known yet. A promise that was not
made rejects nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import fmean

from fairlead.model import InstanceView, RequestView, Role
from fairlead.policies.admission import sides
from fairlead.policies.admission.decode_load import Inside, Pace
from fairlead.policies.admission.mooncake_early import Params
from fairlead.policies.registry import admission


@admission("mooncake-predicted", Params)
class MooncakePredicted:
    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params
        self._decode_sides: dict[str, DecodeSide] = {}
        """By the first pool that decodes."""

    def retry_after_s(
        self, request: RequestView, candidates: Sequence[InstanceView], now: float
    ) -> float | None:
        promise, params = request.objective, self._params
        beginners = list(sides.beginners(candidates))
        ttft_s = min((view.predicted_ttft_s(request) for view in beginners), default=0.0)
        if promise.ttft_s is not None:
            excess_s = now - request.arrival_s + ttft_s - params.most * promise.ttft_s
            if excess_s > 0:
                return max(excess_s, params.retry_after_s)
        decoders = sides.decoders(candidates)
        if not decoders:
            return None
        side = self._decode_sides.setdefault(decoders[0].pool, DecodeSide())
        tpot_s = side.tpot_s(beginners, decoders, request, now, ttft_s)
        most_s = tpot_s if promise.tpot_s is None else params.most * promise.tpot_s
        if tpot_s > most_s:
            return params.retry_after_s
        side.admit(decoders, request, now + ttft_s, most_s)
        return None


class DecodeSide:
    """Instances that decode, and what is on its way to them."""

    def __init__(self) -> None:
        self._inside = Inside()
        self._pace = Pace()

    def tpot_s(
        self,
        beginners: Sequence[InstanceView],
        decoders: Sequence[InstanceView],
        request: RequestView,
        now: float,
        ahead_s: float,
    ) -> float:
        """The mean time per output token, so long from now, with this request."""
        batch = fmean(view.running + view.waiting for view in decoders)
        self._pace.see(batch, fmean(view.predicted_tpot_s(request) for view in decoders))
        # One that is being handed off runs on both sides: it is counted where it goes.
        coming = sum(view.waiting for view in beginners if view.role is Role.PREFILL)
        inside = coming + sum(view.running + view.waiting for view in decoders)
        share = self._inside.share(now, now + ahead_s)
        return self._pace.tpot_s(share * inside / len(decoders))

    def admit(
        self, decoders: Sequence[InstanceView], request: RequestView, begin_s: float, pace_s: float
    ) -> None:
        """The request is inside; it decodes at this pace."""
        now_s = fmean(view.predicted_tpot_s(request) for view in decoders)
        decoding_s = fmean(sides.decoding_s(request, view) for view in decoders)
        self._inside.add(begin_s, begin_s + decoding_s * pace_s / now_s)
