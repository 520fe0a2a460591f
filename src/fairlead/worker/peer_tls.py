"""TLS between two workers: both show a certificate, and the one that is dialled is the very one
that the gateway knows by its fingerprint.

Names in the certificates do not matter: workers are reached at addresses that nobody chose.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from dataclasses import dataclass

from fairlead.model import ConfigError, ProtocolError
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.tls import dialling, serving

MOST_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class PeerTls:
    """What one worker needs for both ends."""

    serving: ssl.SSLContext
    dialling: ssl.SSLContext
    fingerprint: str
    """SHA-256 of the certificate that is shown, in hex."""


def peer_tls_of(settings: WorkerSettings) -> PeerTls | None:
    """What a worker with these settings hands sequences off with; None for plain TCP, where it has
    no certificate. Raises `ConfigError`, also where others could not trust that."""
    cert, key = settings.tls_cert, settings.tls_key or settings.tls_cert
    if not cert:
        return None
    ca = settings.tls_peers_ca or settings.tls_ca
    server, client = serving(cert, key, ca), dialling(ca, cert, key)
    client.check_hostname = False
    return PeerTls(server, client, _shake_hands(server, client, cert, ca))


async def dial(
    host: str, port: int, tls: PeerTls | None, fingerprint: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to whoever has that fingerprint; without TLS where both have none. Nothing has
    been said yet. Raises `OSError`, `ProtocolError` where it is somebody else."""
    if (tls is None) != (not fingerprint):
        raise ProtocolError("one of the two workers has a certificate and the other has none")
    if tls is None:
        return await asyncio.open_connection(host, port)
    reader, writer = await asyncio.open_connection(host, port, ssl=tls.dialling)
    if _fingerprint(writer.get_extra_info("ssl_object")) != fingerprint:
        writer.close()
        raise ProtocolError("it shows another certificate than the one that the gateway knows")
    return reader, writer


def _fingerprint(connection: ssl.SSLObject) -> str:
    return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, cert: str, ca: str) -> str:
    """Shows a worker's certificate to itself, as to another worker; its fingerprint."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialled = client.wrap_bio(back, there)
    answering = server.wrap_bio(there, back, server_side=True)
    open_ends = [dialled, answering]
    try:
        for _ in range(MOST_ROUNDS):
            open_ends = [end for end in open_ends if not _went_on(end)]
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", None) or error.reason or error
        raise ConfigError(
            f"other workers would not take the certificate {cert} by the authorities in {ca}: "
            f"{why}; name the workers' authority as tls_peers_ca, and let the certificate be one "
            "for servers and for clients"
        ) from None
    return _fingerprint(dialled)


def _went_on(end: ssl.SSLObject) -> bool:
    """Whether the handshake is over at this end."""
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
