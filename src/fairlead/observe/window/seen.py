"""What a window looks at: the fleet's own picture of its instances and requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fairlead.model import HandoffWhy, InstanceId, InstanceSpec, Report, RequestId, Role


class SeenInstance(Protocol):
    """`fairlead.fleet.shadow.Shadow` is one."""

    @property
    def spec(self) -> InstanceSpec: ...
    @property
    def role(self) -> Role: ...
    @property
    def report(self) -> Report | None: ...
    @property
    def draining(self) -> bool: ...
    @property
    def attempts(self) -> Mapping[RequestId, int]:
        """Requests that are there."""
        ...


class SeenMove(Protocol):
    """A hand-off under way."""

    @property
    def target(self) -> InstanceId: ...
    @property
    def why(self) -> HandoffWhy: ...
    @property
    def begun_s(self) -> float: ...


class SeenRequest(Protocol):
    """`fairlead.fleet.tracked.Tracked` is one."""

    @property
    def instance(self) -> InstanceId | None: ...
    @property
    def n_produced(self) -> int: ...
    @property
    def moving(self) -> SeenMove | None: ...
    @property
    def predicted_ttft_s(self) -> float | None: ...
    @property
    def predicted_e2e_s(self) -> float | None: ...


class SeenFleet(Protocol):
    """`fairlead.fleet.Fleet` is one."""

    @property
    def requests(self) -> Mapping[RequestId, SeenRequest]: ...
    @property
    def instances(self) -> Mapping[InstanceId, SeenInstance]: ...
    @property
    def n_queued(self) -> int: ...
