"""Keys: how one is made, and how one is recognised.

A key is `fl_ID_SECRET`. The id is no secret: it finds the record, appears in lists and is what is
revoked. The secret has 256 bits from the operating system, so that a plain SHA-256 of the whole is
as good as it gets: there is nothing to guess, and slow hashes protect what people choose.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256

PREFIX = b"fl_"
ID_BYTES = 6
MAX_KEY_BYTES = 256
"""Whatever is longer is no key, and is not hashed."""
NO_DIGEST = bytes(32)


def new_key() -> tuple[str, str, bytes]:
    """Its id, the key itself (to be shown once), and the digest to keep."""
    id = secrets.token_hex(ID_BYTES)
    key = f"{PREFIX.decode()}{id}_{secrets.token_urlsafe(32)}"
    return id, key, sha256(key.encode()).digest()


def id_of(key: bytes) -> str | None:
    """The id that a key claims; None where it is no key of ours."""
    if not key.startswith(PREFIX) or len(key) > MAX_KEY_BYTES or not key.isascii():
        return None
    return key[len(PREFIX) :].partition(b"_")[0].decode()


def matches(key: bytes, digest: bytes | None) -> bool:
    """Whether this is the key with that digest. Takes as long for one that nobody knows."""
    known = NO_DIGEST if digest is None else digest
    return hmac.compare_digest(sha256(key).digest(), known)
