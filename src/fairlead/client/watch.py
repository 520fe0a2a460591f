"""Follows a gateway's window: the picture of its fleet, once or second by second."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from fairlead.client.errors import connection_error, message_of_body
from fairlead.model import ConfigError
from fairlead.observe.window import apply

SILENT_S = 10.0
"""Something comes every second; after so long without a word the link is dead."""
MOST_BYTES = 1 << 26

State = dict[str, Any]


class NoLinkError(Exception):
    """The gateway does not answer now; it may in a while."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A gateway to look at."""

    url: str
    api_key: str | None = None

    def once(self) -> State:
        """The whole picture. Raises `ConfigError` where there is none to be had, `NoLinkError`
        where nobody answers."""
        with self._open("state") as answer:
            return self._decoded(answer.read(MOST_BYTES))

    def pictures(self) -> Iterator[State]:
        """The picture whenever it has changed, until the gateway ends the stream. Raises as
        `once`."""
        state: State = {}
        with self._open("events") as answer:
            for kind, data in _events(answer):
                if kind == "bye":
                    return
                change = self._decoded(data)
                state = change if kind == "state" else apply(state, change)
                yield state

    def _open(self, what: str) -> http.client.HTTPResponse:
        head = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        try:
            request = urllib.request.Request(f"{self.url}/dashboard/{what}", headers=head)
            answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=SILENT_S)
            return answer
        except urllib.error.HTTPError as error:
            raise _refusal(self.url, error) from error
        except urllib.error.URLError as error:
            reason = error.reason if isinstance(error.reason, OSError) else error
            raise NoLinkError(f"{self.url}: {connection_error(reason)}") from error
        except (OSError, http.client.HTTPException) as error:
            raise NoLinkError(f"{self.url}: {connection_error(error)}") from error
        except ValueError as error:
            raise ConfigError(f"{self.url!r} is no address; write http://HOST:PORT.") from error

    def _decoded(self, data: bytes) -> State:
        try:
            found = msgspec.json.decode(data)
        except msgspec.MsgspecError:
            found = None
        if not isinstance(found, dict):
            raise ConfigError(f"{self.url}/dashboard is no window of a Fairlead gateway.")
        return found


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    said = message_of_body(error.read(1 << 16)).rstrip(".")
    if error.code == 404:
        return ConfigError(
            f"{url} has no dashboard: it is no Fairlead gateway, or [gateway] dashboard is false."
        )
    if error.code >= 500:
        return NoLinkError(f"{url}: {said}")
    hint = " (--api-key)" if error.code == 401 else ""
    return ConfigError(f"{url}: {said}{hint}.")


def _events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, bytes]]:
    kind = ""
    while True:
        try:
            line = answer.readline(MOST_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise NoLinkError(connection_error(error)) from error
        if not line:
            raise NoLinkError("the gateway hung up")
        if line.startswith(b"event: "):
            kind = line[7:].strip().decode()
        elif line.startswith(b"data: "):
            yield kind, line[6:]
