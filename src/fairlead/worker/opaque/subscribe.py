"""Listens to the cache events that a server publishes over ZeroMQ, and asks for those it missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fairlead.model import ConfigError
from fairlead.worker.opaque.kv_events import KvEvents

REPLAY_S = 10.0
"""For an answer to a question for old events."""
_LAST = (-1).to_bytes(8, "big", signed=True)
"""The number after the last event of a replay."""


def check_available() -> None:
    """Raises `ConfigError` where the library is missing."""
    try:
        import zmq.asyncio  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "kv_events needs the package pyzmq; pip install 'fairlead[kv-events]', or leave it out "
            "and let the fleet guess what is cached"
        ) from error


class Subscriber:
    """Batches come numbered; a gap is closed by a replay, where the server has one, and otherwise
    all that was known is forgotten: rather no news of a prefix than wrong ones."""

    def __init__(
        self, endpoint: str, replay: str | None, events: KvEvents, tell: Callable[[str], None]
    ) -> None:
        self._endpoint = endpoint
        self._replay = replay
        self._events = events
        self._tell = tell
        self._next = 0

    async def run(self) -> None:
        """Until cancelled. Raises `ConfigError` where the address is none."""
        import zmq
        import zmq.asyncio

        context = zmq.asyncio.Context()
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            try:
                socket.connect(self._endpoint)
            except zmq.ZMQError as error:
                raise ConfigError(
                    f"kv_events {self._endpoint!r} is no address ({error}); expected something "
                    "like tcp://127.0.0.1:5557"
                ) from error
            await self._catch_up(context)
            while True:
                parts = await socket.recv_multipart()
                if len(parts) == 3 and len(parts[1]) == 8:
                    await self._hear(context, int.from_bytes(parts[1], "big"), parts[2])
        finally:
            socket.close(linger=0)
            context.destroy(linger=0)

    async def _hear(self, context: Any, number: int, payload: bytes) -> None:
        if number < self._next:
            if number > 0:
                return  # Heard in a replay.
            self._events.forget()  # The server began anew.
        elif number > self._next:
            await self._catch_up(context)
            if number > self._next:
                self._tell(f"cache events {self._next} to {number - 1} are lost for good")
                self._events.forget()
            elif number < self._next:
                return
        self._events.take(payload)
        self._next = number + 1

    async def _catch_up(self, context: Any) -> None:
        """What was published before, as far as the server still has it."""
        if self._replay is None:
            return
        import zmq

        socket = context.socket(zmq.DEALER)
        try:
            socket.connect(self._replay)
            await socket.send_multipart([b"", self._next.to_bytes(8, "big")])
            async with asyncio.timeout(REPLAY_S):
                await self._replayed(socket)
        except (TimeoutError, zmq.ZMQError) as error:
            self._tell(f"no replay of cache events at {self._replay}: {error or 'no answer'}")
        finally:
            socket.close(linger=0)

    async def _replayed(self, socket: Any) -> None:
        while True:
            parts = await socket.recv_multipart()
            if len(parts) < 3 or parts[-2] == _LAST:
                return
            number = int.from_bytes(parts[-2], "big")
            if number > self._next:
                self._events.forget()  # Its memory does not reach back that far.
            if number >= self._next:
                self._events.take(parts[-1])
                self._next = number + 1
