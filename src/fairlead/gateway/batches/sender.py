"""A line of a batch on the way that every call takes: intake, the tenant's door, the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from fairlead.gateway.asked import Asked
from fairlead.gateway.driver import Driver
from fairlead.gateway.embeddings import EmbeddingCall, parse_embedding
from fairlead.gateway.exchange import Exchange, Headers
from fairlead.gateway.intake import Intake
from fairlead.gateway.streams import Call
from fairlead.gateway.tenants.caller import Caller
from fairlead.gateway.tenants.door import Door
from fairlead.model import CancelWhy


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client would have got."""

    status: int
    request_id: str
    body: bytes
    retry_after_s: float | None = None


Answered = Callable[[Answer], None]


class LineExchange(Exchange):
    """An exchange with nobody at the other end: the reply goes to a function."""

    def __init__(self, path: str, answered: Answered) -> None:
        async def no_body() -> dict[str, object]:
            return {"type": "http.disconnect"}

        super().__init__({"method": "POST", "path": path, "headers": []}, no_body)
        self._answered = answered

    def give_up(self, why: CancelWhy) -> None:
        """Nobody is there to be given up."""

    @property
    def unsent_bytes(self) -> int:
        return 0

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.started = True
        found = dict([*headers, *self.extra_headers])
        retry = found.get(b"retry-after")
        request_id = found.get(b"x-request-id", b"").decode()
        retry_after_s = None if retry is None else float(retry)
        self._answered(Answer(status, request_id, body, retry_after_s))

    def start(self, headers: Headers, data: bytes) -> None:
        raise AssertionError("lines of a batch are not streamed")

    def write(self, data: bytes) -> None:
        raise AssertionError("lines of a batch are not streamed")

    def end(self, data: bytes = b"") -> None:
        raise AssertionError("lines of a batch are not streamed")

    async def finished(self) -> None:
        """Nobody waits for it."""


class Sender:
    """Makes calls of lines."""

    def __init__(
        self,
        intake: Intake,
        driver: Driver,
        door: Door,
        calls: set[Call],
        serves: Callable[[str], bool],
        spare: Callable[[str], int],
    ) -> None:
        """`calls` are the gateway's under way; `spare` is how many more requests of a model the
        fleet takes now without anybody else noticing."""
        self._intake = intake
        self._driver = driver
        self._calls = calls
        self.door = door
        self.serves = serves
        """Whether a model is served here."""
        self.spare = spare

    async def send(
        self, path: str, body: bytes, caller: Caller, id: str, answered: Answered
    ) -> Call:
        """Begins a call; `answered` hears how it ends, perhaps before this returns. Raises
        `RequestError` where it does not begin. `id` is its name in the ledger, where a call counts
        once, however often it has to be made."""
        self.door.check(caller)
        asked, kind = await self._read(path, body, caller)
        begun: list[Call] = []

        def end(answer: Answer) -> None:
            self._calls.difference_update(begun)
            answered(answer)
            for call in begun:
                call.let_go()
            begun.clear()  # The last that leads from the call to itself.

        exchange = LineExchange(path, end)
        call = kind(asked, exchange, self._driver, self.door.open(caller, asked, id))
        begun.append(call)
        self._calls.add(call)
        call.begin()
        return call

    async def _read(
        self, path: str, body: bytes, caller: Caller
    ) -> tuple[Asked, Callable[..., Call]]:
        """What is asked, and what makes a call of it."""
        match path:
            case "/v1/embeddings":
                embedding = parse_embedding(body)
                asked = await self._intake.embedding(embedding.completion(), caller, None)
                return asked, partial(EmbeddingCall, embedding)
            case "/v1/chat/completions":
                return await self._intake.chat(body, caller, None), Call
            case _:
                return await self._intake.completion(body, caller, None), Call

    def abandon(self, calls: Iterable[Call]) -> None:
        """Nobody wants their answers any more, and none comes."""
        for call in list(calls):
            self._calls.discard(call)
            call.abandon(CancelWhy.CLIENT_LEFT)
            call.let_go()
