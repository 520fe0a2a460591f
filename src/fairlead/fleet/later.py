"""An instance as it looks to a request that must first wait in the fleet's queue."""

from __future__ import annotations

from fairlead.fleet.shadow import Shadow
from fairlead.model import InstanceId, RequestView, Role


class Later:
    """An `InstanceView` whose predictions begin with that wait, and at which those wait, too, who
    go before it."""

    def __init__(self, shadow: Shadow, n_before: int, wait_s: float) -> None:
        self._shadow = shadow
        self._n_before = n_before
        self._wait_s = wait_s

    @property
    def id(self) -> InstanceId:
        return self._shadow.id

    @property
    def pool(self) -> str:
        return self._shadow.pool

    @property
    def role(self) -> Role:
        return self._shadow.role

    @property
    def price_per_hour(self) -> float:
        return self._shadow.price_per_hour

    @property
    def running(self) -> int:
        return self._shadow.running

    @property
    def waiting(self) -> int:
        return self._shadow.waiting + self._n_before

    @property
    def queued_tokens(self) -> int:
        return self._shadow.queued_tokens

    @property
    def promised_tokens(self) -> int:
        return self._shadow.promised_tokens

    @property
    def context_tokens(self) -> int:
        return self._shadow.context_tokens

    @property
    def available_blocks(self) -> int:
        return self._shadow.available_blocks

    @property
    def total_blocks(self) -> int:
        return self._shadow.total_blocks

    def cached_tokens(self, request: RequestView) -> int:
        return self._shadow.cached_tokens(request)

    def predicted_ttft_s(self, request: RequestView) -> float:
        return self._wait_s + self._shadow.predicted_ttft_s(request)

    def least_ttft_s(self, request: RequestView) -> float:
        return self._wait_s + self._shadow.least_ttft_s(request)

    def added_s(self, request: RequestView) -> float:
        return self._shadow.added_s(request)

    def broken_paces(self, request: RequestView) -> float:
        return self._shadow.broken_paces(request)

    def predicted_tpot_s(self, request: RequestView) -> float:
        return self._shadow.predicted_tpot_s(request)

    def predicted_e2e_s(self, request: RequestView) -> float:
        return self._wait_s + self._shadow.predicted_e2e_s(request)

    def yielding_s(self, request: RequestView) -> float:
        return self._shadow.yielding_s(request)
