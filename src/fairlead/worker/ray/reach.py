"""Where the nodes of a Ray cluster reach a gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

from fairlead.model import ConfigError
from fairlead.worker.link import Address


def join_address(given: str, listening: str, nodes: Sequence[str]) -> str:
    """HOST:PORT for workers: what the fleet file says, or else what follows from where the gateway
    listens. `nodes` are the addresses of the cluster's nodes, that of this machine first. Raises
    `ConfigError` where nodes elsewhere cannot reach it."""
    if given:
        return given
    address = Address.parse(listening)
    if address.host in ("0.0.0.0", "::"):
        return str(replace(address, host=nodes[0]))
    elsewhere = [node for node in nodes if node != nodes[0]]
    if elsewhere and _is_loopback(address.host):
        raise ConfigError(
            f"workers on {elsewhere[0]} and other nodes of the Ray cluster cannot reach "
            f"{listening}, which is this machine alone; set gateway.workers_listen to an address "
            'that they reach, such as "0.0.0.0:8001"'
        )
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
