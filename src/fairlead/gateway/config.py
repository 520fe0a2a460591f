"""What can be set about a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairlead.gateway.checks.config import CheckConfig
from fairlead.model import ConfigError


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """How a gateway listens, whom it lets in, and what it puts up with. Checked when made."""

    token: str = field(repr=False)
    """The fleet's shared secret, which every worker must say."""
    listen: str = "127.0.0.1:8000"
    """Where clients connect; port 0 takes any free one."""
    admin_listen: str = ""
    """Where operators connect: `/dashboard` and `/metrics` are served there and nowhere else. On
    the loopback interface without TLS, elsewhere as on the clients' port. Empty: on the clients'
    port."""
    workers_listen: str = "127.0.0.1:0"
    """Where workers connect."""
    tls_cert: str = ""
    """A PEM file with the certificate, and those between it and its authority, that clients are
    shown; empty serves plain HTTP."""
    tls_key: str = ""
    """The key of that, in a PEM file without a password."""
    workers_tls_cert: str = ""
    """The same for the workers' port. Local workers connect through a port of their own, which is
    bound to the loopback interface and needs no TLS."""
    workers_tls_key: str = ""
    workers_tls_ca: str = ""
    """A PEM file; a worker must show a certificate that one of these authorities has signed, beside
    the token. Empty: the token alone."""
    api_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Tenant by API key. Empty: nobody needs a key, and everybody is the tenant "" ."""
    dashboard: bool = True
    """Serves `/dashboard`, and what `fairlead top` reads."""
    dashboard_tenants: tuple[str, ...] = ()
    """Tenants whose keys open the dashboard, which shows the requests of all (lengths and times, no
    text). Empty: everybody's where there is one tenant or none, nobody's where there are more."""
    max_watchers: int = 32
    """Dashboards and terminals that watch at once."""
    checks: tuple[CheckConfig, ...] = ()
    """What every call must pass before it is served, in this order."""
    cors_origins: tuple[str, ...] = ()
    """Web pages of these origins may call from a browser; `*` lets all in. Off by default."""
    max_body_bytes: int = 16 * 1024 * 1024
    """A prompt of a million tokens takes about 5 MB."""
    max_stream_buffer_bytes: int = 1024 * 1024
    """Unread output kept for one slow client; beyond it the request is cancelled."""
    max_connections: int = 16384
    """Clients' connections at once; more get a 503. Each takes a file descriptor."""
    head_timeout_s: float = 10.0
    """A client must have sent its request's address and headers after this time."""
    body_timeout_s: float = 30.0
    """A client must have sent its request's body after this time."""
    keep_alive_s: float = 75.0
    """An idle client connection is closed after this time."""
    heartbeat_s: float = 0.5
    """Workers report at least this often; one that is silent ten times as long is gone."""
    hello_timeout_s: float = 5.0
    """A connection on the workers' port must have said who it is after this time."""
    tick_s: float = 1.0
    """The fleet is told at least this often that time has passed."""

    def __post_init__(self) -> None:
        problems = []
        if not self.token:
            problems.append("token must not be empty: workers prove with it that they belong here")
        for name in ("listen", "workers_listen", "admin_listen"):
            try:
                if getattr(self, name) or name != "admin_listen":
                    parse_address(getattr(self, name))
            except ConfigError as error:
                problems.append(f"{name}: {error}")
        for cert, key in (("tls_cert", "tls_key"), ("workers_tls_cert", "workers_tls_key")):
            if bool(getattr(self, cert)) != bool(getattr(self, key)):
                problems.append(f"{cert} and {key} belong together: give both, or neither")
        if self.workers_tls_ca and not self.workers_tls_cert:
            problems.append("workers_tls_ca needs workers_tls_cert and workers_tls_key")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                problems.append(f"{name} must be positive, got {getattr(self, name)}")
        if any(not key for key in self.api_keys):
            problems.append("api_keys: a key must not be empty")
        if problems:
            raise ConfigError("gateway: " + "; ".join(problems))


_POSITIVE = (
    "max_watchers",
    "max_body_bytes",
    "max_stream_buffer_bytes",
    "max_connections",
    "head_timeout_s",
    "body_timeout_s",
    "keep_alive_s",
    "heartbeat_s",
    "hello_timeout_s",
    "tick_s",
)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[ipv6]:port`."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{text!r} is not an address; write HOST:PORT, such as 127.0.0.1:8000")
    return host, int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches it."""
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def format_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
