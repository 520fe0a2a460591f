"""What a roles policy offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fairlead.model import HostView, InstanceId, RequestView, Role


class RolesPolicy(Protocol):
    """Roles are the fleet's: an instance can do everything, and is sent what its role says."""

    period_s: float
    """How often it is asked for roles; never on a token."""

    def assign(self, hosts: Sequence[HostView], now: float) -> Mapping[InstanceId, Role]:
        """Roles that change now. `hosts` all serve one model. What would leave nobody to begin
        requests, or nobody to decode them, is not carried out."""
        ...

    def decoders(
        self, request: RequestView, here: HostView, others: Sequence[HostView], now: float
    ) -> Sequence[HostView]:
        """Who may decode a request that `here`, an instance for prompts, has prefilled: any of
        `others`, which have room for it, or `here`. The routing policy chooses among several. One
        that is there for prompts decodes from then on. Nobody: it stays for the time being."""
        ...


def assigned(hosts: Sequence[HostView]) -> Sequence[HostView]:
    """Those for decoding only, or where there are none, those that do both."""
    return [host for host in hosts if host.role is Role.DECODE] or [
        host for host in hosts if host.role is Role.MIXED
    ]


def promised_tpot_s(request: RequestView, default_s: float) -> float:
    return request.objective.tpot_s or default_s


def promised_ttft_s(request: RequestView, default_s: float) -> float:
    return request.objective.ttft_s or default_s
