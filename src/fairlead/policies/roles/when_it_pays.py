"""Each request is split only if decoding elsewhere saves it more time than the hand-off takes.

Source: our own; DistServe and Splitwise always split, and say that short answers suffer.
Rule:   a request decodes where it was prefilled if its expected tokens, each at the pace there,
        take no longer than `margin` times the hand-off and the same tokens at the pace of the best
        instance for decoding, the pace there keeps the promise, and nobody waits there for a
        prompt to be computed. Roles stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import HostView, InstanceId, RequestView, Role
from fairlead.policies.registry import roles
from fairlead.policies.roles.parts import assigned, promised_tpot_s


@dataclass(frozen=True, slots=True)
class Params:
    margin: float = 1.0
    """Above 1 keeps more requests where they are, 0 splits all."""
    tpot_s: float = 0.1
    """Pace to be kept where the request is promised none."""

    def __post_init__(self) -> None:
        if self.margin < 0 or self.tpot_s <= 0:
            raise ValueError("margin must be at least 0, and tpot_s above 0")


@roles("when-it-pays", Params)
class WhenItPays:
    period_s = float("inf")

    def __init__(self, params: Params, rng: Random) -> None:
        self._params = params

    def assign(self, hosts: Sequence[HostView], now: float) -> Mapping[InstanceId, Role]:
        return {}

    def decoders(
        self, request: RequestView, here: HostView, others: Sequence[HostView], now: float
    ) -> Sequence[HostView]:
        takers = assigned(others)
        if not takers or self._stays(request, here, takers):
            return []
        return takers

    def _stays(self, request: RequestView, here: HostView, takers: Sequence[HostView]) -> bool:
        promised_s = promised_tpot_s(request, self._params.tpot_s)
        if here.waiting or here.predicted_tpot_s(request) > promised_s:
            return False
        there_s = min(_rest_s(request, host) for host in takers)
        handoff_s = here.handoff_s(request.prompt_tokens)
        return _rest_s(request, here) <= self._params.margin * (handoff_s + there_s)


def _rest_s(request: RequestView, host: HostView) -> float:
    """From the first token to the last, at the pace there."""
    return host.predicted_e2e_s(request) - host.predicted_ttft_s(request)
