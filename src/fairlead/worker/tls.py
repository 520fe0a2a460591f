"""TLS for both ends of the workers' port, and for the clients' port: what is loaded, and what is
said where it cannot be."""

from __future__ import annotations

import ssl

from fairlead.model import ConfigError
from fairlead.worker.settings import WorkerSettings


def serving(cert: str, key: str, clients_ca: str = "") -> ssl.SSLContext:
    """Who connects must speak TLS 1.2 or newer, and with `clients_ca` show a certificate that it
    has signed. Raises `ConfigError` where a file is no good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_chain(context, cert, key)
    if clients_ca:
        _trust(context, clients_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def dialling(ca: str, cert: str = "", key: str = "") -> ssl.SSLContext:
    """The other end must show a certificate of `ca` for the host that was dialled; ours is shown
    where there is one. Raises `ConfigError` where a file is no good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _trust(context, ca)
    if cert:
        _load_chain(context, cert, key or cert)
    return context


def tls_of(settings: WorkerSettings) -> ssl.SSLContext | None:
    """What a worker with these settings dials with; None for plain TCP."""
    if not settings.tls_ca:
        return None
    return dialling(settings.tls_ca, settings.tls_cert, settings.tls_key)


def _load_chain(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot use the certificate {cert} with the key {key}: {_plainly(error)}; expected "
            "two PEM files that belong together, the key without a password"
        ) from None


def _trust(context: ssl.SSLContext, ca: str) -> None:
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        raise ConfigError(
            f"cannot use {ca} as a certificate authority: {_plainly(error)}; expected a PEM file"
        ) from None


def _no_password() -> str:
    """Without this, OpenSSL asks at the terminal."""
    raise ValueError("it has a password")


def _plainly(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not a PEM file"
    return getattr(error, "strerror", None) or str(error)
