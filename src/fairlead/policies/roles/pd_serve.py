"""The ratio of prefill to decode instances follows whichever of the two is the bottleneck.

Paper: "P/D-Serve: Serving Disaggregated Large Language Model at Scale".
Rule:  load is the predicted first token over the promised one for prefill, and the predicted pace
       over the promised one for decode, on average. Where one is above `high` and the other below
       `low`, the least loaded instance of the other changes sides; then nothing for `dwell_s`.

It comes to rest at the paper's balance nP/nD = (TP/bP) / (TD/bD), mean times over batches, without
having to know them. The paper's other rules have their place elsewhere: a group for each scenario
is a pool; requests that wait at the gateway until a prefill instance can start them are what the
fleet's queue does for pools with `max_waiting = 0`. The thresholds are ours, the paper gives none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

from fairlead.model import HostView, InstanceId, RequestView, Role
from fairlead.policies.registry import roles
from fairlead.policies.roles.parts import assigned, promised_tpot_s, promised_ttft_s


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 1.0
    high: float = 0.8
    low: float = 0.6
    dwell_s: float = 5.0
    tpot_s: float = 0.05
    """Pace to be kept where the request is promised none."""
    ttft_s: float = 1.0
    """First token to be kept where the request is promised none."""

    def __post_init__(self) -> None:
        if min(self.period_s, self.tpot_s, self.ttft_s) <= 0 or self.dwell_s < 0:
            raise ValueError("period_s, tpot_s and ttft_s must be above 0, and dwell_s at least 0")
        if not 0 < self.low <= self.high:
            raise ValueError(f"0 < low <= high must hold, got {self.low} and {self.high}")


@roles("pd-serve", Params)
class PDServe:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._changed_s = float("-inf")

    def assign(self, hosts: Sequence[HostView], now: float) -> Mapping[InstanceId, Role]:
        prompts = [host for host in hosts if host.role is Role.PREFILL]
        decoding = [host for host in hosts if host.role is Role.DECODE]
        if not prompts or not decoding or now - self._changed_s < self._params.dwell_s:
            return {}
        prefill_load = fmean(self._prefill_load(host) for host in prompts)
        decode_load = fmean(self._decode_load(host) for host in decoding)
        if prefill_load > self._params.high and decode_load < self._params.low:
            return self._change(decoding, Role.PREFILL, now)
        if decode_load > self._params.high and prefill_load < self._params.low:
            return self._change(prompts, Role.DECODE, now)
        return {}

    def _prefill_load(self, host: HostView) -> float:
        """Of the request that was sent there last: all that is queued comes before it."""
        if not host.queue:
            return 0.0
        last = host.queue[-1].request
        return host.predicted_ttft_s(last) / promised_ttft_s(last, self._params.ttft_s)

    def _decode_load(self, host: HostView) -> float:
        if not host.decoding:
            return 0.0
        one = host.decoding[-1].request
        return host.predicted_tpot_s(one) / promised_tpot_s(one, self._params.tpot_s)

    def _change(
        self, hosts: Sequence[HostView], role: Role, now: float
    ) -> Mapping[InstanceId, Role]:
        if len(hosts) < 2:
            return {}
        self._changed_s = now
        least = min(hosts, key=lambda host: (host.running + host.waiting, host.id))
        return {least.id: role}

    def decoders(
        self, request: RequestView, here: HostView, others: Sequence[HostView], now: float
    ) -> Sequence[HostView]:
        return assigned(others)
