"""Roles follow the load: decodes are packed on as few instances as keep the pace, and all others
compute prompts.

Paper: "Llumnix: Dynamic Scheduling for Large Language Model Serving", adaptive P/D of its second
       version (llumnix-project/llumnix); the flip back is that of "xLLM Technical Report".
Rule:  a prefilled request goes to the decoding instance with the slowest predicted pace that is
       still within `pack` of the promised one; where there is none, the instance for prompts with
       the earliest predicted first token decodes from now on, itself included; where there is none
       to spare, to the decoding instance with the best pace. One that decodes nothing any more
       computes prompts. One instance stays for prompts and one for decoding.

Left out: moving decodes off instances above 0.95 of the pace, and together from those below 0.60.
That is rescheduling, and any of its policies can stand beside this one. Ours: `dwell_s`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from fairlead.model import HostView, InstanceId, RequestView, Role
from fairlead.policies.registry import roles
from fairlead.policies.roles.parts import promised_tpot_s


@dataclass(frozen=True, slots=True)
class Params:
    period_s: float = 0.1
    pack: float = 0.85
    """Share of the promised pace up to which an instance is filled."""
    tpot_s: float = 0.05
    """Pace to be kept where the request is promised none; xLLM's."""
    ttft_s: float = 1.0
    """First token to be kept where the request is promised none; xLLM's."""
    dwell_s: float = 1.0
    """Least time in a role; where single requests drive flips, they flutter."""

    def __post_init__(self) -> None:
        if min(self.period_s, self.pack, self.tpot_s, self.ttft_s) <= 0 or self.dwell_s < 0:
            raise ValueError(
                "period_s, pack, tpot_s and ttft_s must be above 0, and dwell_s at least 0"
            )


@roles("adaptive-pd", Params)
class AdaptivePD:
    def __init__(self, params: Params, rng: Random) -> None:
        self.period_s = params.period_s
        self._params = params
        self._since_s: dict[InstanceId, float] = {}
        """When each instance got its role."""
        self._prompts: InstanceId | None = None
        """The instance that stays for prompts; the one for decoding is the first other."""

    def assign(self, hosts: Sequence[HostView], now: float) -> Mapping[InstanceId, Role]:
        if len(hosts) < 2:
            return {host.id: Role.MIXED for host in hosts if host.role is not Role.MIXED}
        stays_p, stays_d, *rest = sorted(hosts, key=lambda host: host.id)
        self._prompts = stays_p.id
        wanted = {stays_p.id: Role.PREFILL, stays_d.id: Role.DECODE}
        for host in rest:
            if host.role is Role.MIXED or (not host.running and self._dwelt(host, now)):
                wanted[host.id] = Role.PREFILL
        changes = {h.id: wanted[h.id] for h in hosts if wanted.get(h.id, h.role) is not h.role}
        self._since_s |= dict.fromkeys(changes, now)
        return changes

    def _dwelt(self, host: HostView, now: float) -> bool:
        return now - self._since_s.get(host.id, float("-inf")) >= self._params.dwell_s

    def decoders(
        self, request: RequestView, here: HostView, others: Sequence[HostView], now: float
    ) -> Sequence[HostView]:
        decoding = [host for host in others if host.role is Role.DECODE]
        pace_s = {host.id: host.predicted_tpot_s(request) for host in decoding}
        most_s = self._params.pack * promised_tpot_s(request, self._params.tpot_s)
        packed = [host for host in decoding if pace_s[host.id] <= most_s]
        if packed:
            return [max(packed, key=lambda host: (pace_s[host.id], host.id))]
        spare = self._spare(request, [here, *others])
        if spare:
            self._since_s[spare[0].id] = now
            return spare[:1]
        return sorted(decoding, key=lambda host: (pace_s[host.id], host.id))[:1]

    def _spare(self, request: RequestView, hosts: Sequence[HostView]) -> list[HostView]:
        """Instances for prompts that could decode instead, those with the shortest queue first:
        none, where that would make first tokens late."""
        prompts = [host for host in hosts if host.role is Role.PREFILL]
        if len(prompts) < 2:
            return []
        spare = [host for host in prompts if host.id != self._prompts]
        return sorted(spare, key=lambda host: (host.predicted_ttft_s(request), host.id))
