"""The window's pages: the dashboard itself, the picture of the fleet once or as a stream of what
changes, and the story of one request.

A change is worked out once a second for everybody who watches, and not at all while nobody does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any
from urllib.parse import unquote

import msgspec

from fairlead.gateway.exchange import Exchange
from fairlead.gateway.replays import Replays
from fairlead.model import RequestError
from fairlead.observe.story import RequestStory, logged_id
from fairlead.observe.window import Window, difference

PREFIX = "/dashboard"
STORY = f"{PREFIX}/story/"
REPLAY = f"{PREFIX}/replay"
MOST_BODY_BYTES = 1 << 16
BODY_TIMEOUT_S = 10.0
RETRY_AFTER_S = 5.0
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript"}
SAFE = [
    # Nothing is loaded from elsewhere, nothing is run that this gateway did not send, and no
    # other page may put this one into a frame.
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]
_JSON = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_encode = msgspec.json.Encoder().encode


class WindowPages:
    """Answers below `/dashboard`. Who may ask is for others to say."""

    def __init__(
        self,
        window: Window,
        clock: Callable[[], float],
        about: Mapping[str, Any],
        most_watchers: int,
    ) -> None:
        """`about` is told with every picture: the fleet's name, its policies."""
        self.replays: Replays | None = None
        """Plays the event log again, where there is one."""
        self._window = window
        self._clock = clock
        self._about = about
        self._most_watchers = most_watchers
        self._watchers: dict[Exchange, None] = {}
        self._last: dict[str, Any] = {}
        """What all watchers have."""
        self._assets = _assets()

    @property
    def n_watchers(self) -> int:
        return len(self._watchers)

    def is_asset(self, path: str) -> bool:
        """Whether this is a part of the page, which tells nothing of the fleet."""
        return path in self._assets

    def asset(self, exchange: Exchange) -> None:
        kind, data = self._assets[exchange.path]
        exchange.reply(200, [(b"content-type", kind.encode()), *SAFE], data)

    async def show(self, exchange: Exchange) -> None:
        """The picture, its stream, a story, or a replay."""
        path = exchange.path
        if path == REPLAY and exchange.method == "POST" and self.replays is not None:
            await self._replay(exchange, self.replays)
        elif exchange.method == "POST":
            raise RequestError(f"{path} does not take POST", status=405, code="method_not_allowed")
        elif path == f"{PREFIX}/state":
            exchange.reply(200, _JSON, _encode(self._state()))
        elif path == f"{PREFIX}/events" and exchange.method == "GET":
            await self._watch(exchange)
        elif path.startswith(STORY):
            exchange.reply(200, _JSON, _encode(self._story(unquote(path[len(STORY) :]))))
        else:
            raise RequestError(f"there is nothing at {path}", status=404, code="unknown_url")

    def publish(self) -> None:
        """Tells everybody who watches what has changed. To be called every second or so."""
        if not self._watchers:
            return
        state = self._state()
        data = _event("change", difference(self._last, state))
        self._last = state
        for watcher in list(self._watchers):
            if not watcher.gone:
                watcher.write(data)

    def close(self) -> None:
        """Ends every stream."""
        for watcher in list(self._watchers):
            if not watcher.gone:
                watcher.end(_event("bye", {}))
        self._watchers.clear()

    async def _watch(self, exchange: Exchange) -> None:
        if len(self._watchers) >= self._most_watchers:
            raise RequestError(
                f"{self._most_watchers} others are watching; close one, or raise "
                "[gateway] max_watchers",
                status=503,
                code="too_many_watchers",
                retry_after_s=RETRY_AFTER_S,
            )
        # Changes are told against what all have, so a newcomer first brings everybody there.
        self.publish()
        if not self._watchers:
            self._last = self._state()
        self._watchers[exchange] = None
        try:
            exchange.start(_STREAM, _event("state", self._last))
            await exchange.finished()
        finally:
            self._watchers.pop(exchange, None)

    async def _replay(self, exchange: Exchange, replays: Replays) -> None:
        # Another site's form cannot send this type without asking first.
        if (exchange.header(b"content-type") or b"").partition(b";")[0] != b"application/json":
            raise RequestError("send JSON, with content-type: application/json", status=415)
        body = await exchange.body(MOST_BODY_BYTES, BODY_TIMEOUT_S)
        found = await replays.run(body)
        if not exchange.gone:
            exchange.reply(200, _JSON, _encode(found))

    def _state(self) -> dict[str, Any]:
        replay = {} if self.replays is None else {"replay": self.replays.options}
        return {"about": {**self._about, **replay}, **self._window.state(self._clock())}

    def _story(self, id: str) -> dict[str, Any]:
        story = self._window.story(logged_id(id))
        if story is None:
            raise RequestError(
                f"{id!r} is not among the requests that were followed lately. At high rates only "
                "some are; the event log ([gateway] event_log) has all: fairlead story LOG ID",
                status=404,
                code="unknown_request",
            )
        return story_facts(story)


def story_facts(story: RequestStory) -> dict[str, Any]:
    """A story as JSON: seconds since its arrival, and a sentence each."""
    return {
        "id": story.id,
        "title": story.title,
        "moments": [[round(m.t_s - story.arrival_s, 4), m.text] for m in story.moments],
        "verdict": story.verdict if story.end is not None else "under way",
        "ended": story.end is not None,
    }


def _event(kind: str, value: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(value))


def _assets() -> dict[str, tuple[str, bytes]]:
    """The page's files by their path, read once."""
    folder = resources.files("fairlead.gateway").joinpath("dashboard")
    found = {}
    for file in folder.iterdir():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            found[f"{PREFIX}/{file.name}"] = (kind, file.read_bytes())
    return {**found, PREFIX: found.pop(f"{PREFIX}/index.html")}
