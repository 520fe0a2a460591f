"""Ports: what is bound before anything is served."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from fairlead.gateway.config import format_address, parse_address
from fairlead.model import ConfigError


def listen_all(addresses: Mapping[str, str]) -> dict[str, socket.socket]:
    """All of them, or none. Raises `ConfigError` where one is taken."""
    found: dict[str, socket.socket] = {}
    try:
        for name, address in addresses.items():
            found[name] = _listen(address)
    except ConfigError:
        for listener in found.values():
            listener.close()
        raise
    return found


def name_of(listener: socket.socket) -> str:
    """HOST:PORT with the real port."""
    host, port = listener.getsockname()[:2]
    return format_address(host, port)


def _listen(address: str) -> socket.socket:
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. A token must not wait for the acknowledgement of the last.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"address {address} is in use; stop what listens there, or choose another port"
            ) from error
        raise ConfigError(f"cannot listen on {address}: {error.strerror}") from error
    listener.setblocking(False)
    return listener
