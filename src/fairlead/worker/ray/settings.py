"""Where a fleet's Ray cluster is, and what each of its instances takes."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field

from fairlead.model import ConfigError
from fairlead.worker.link import Address

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class RaySettings:
    """The `[ray]` table."""

    address: str = AUTO
    """HOST:PORT of the head node, as `ray start --head` printed it; `auto` is the cluster that runs
    on this machine."""
    join: str = ""
    """HOST:PORT where workers on all nodes reach this gateway; empty takes `workers_listen`, and
    where that is 0.0.0.0 the address that Ray knows this machine by."""
    tls_ca: str = ""
    """A PEM file on the nodes, where `workers_tls_cert` is given; see `fairlead worker`."""
    tls_cert: str = ""
    tls_key: str = ""
    tls_peers_ca: str = ""

    def __post_init__(self) -> None:
        if self.address != AUTO:
            _check(self.address, "address", "HOST:PORT or auto")
        if self.join:
            _check(self.join, "join", "HOST:PORT")


@dataclass(frozen=True, slots=True)
class Needs:
    """What an instance of a pool takes of a node."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    def bundle(self) -> dict[str, float]:
        """By Ray's names, without what it takes nothing of."""
        amounts = {"CPU": self.num_cpus, "GPU": self.num_gpus, **self.resources}
        return {name: amount for name, amount in amounts.items() if amount > 0}


def require_ray() -> None:
    """Raises `ConfigError` where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            'a pool has provisioner = "ray", and Ray is not installed here; '
            "pip install 'fairlead[ray]', the same version as on the cluster"
        )


def _check(text: str, name: str, expected: str) -> None:
    try:
        Address.parse(text)
    except ConfigError:
        raise ValueError(f"{name} must be {expected}, got {text!r}") from None
