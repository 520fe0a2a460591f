"""`/v1/embeddings`: each input is a request of one token, and what counts is the vector with it."""

from __future__ import annotations

import base64
import math
import struct
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fairlead.gateway.asked import Asked
from fairlead.gateway.choices import Choice
from fairlead.gateway.driver import Driver, Outlet
from fairlead.gateway.exchange import Exchange
from fairlead.gateway.render import quote
from fairlead.gateway.schemas import CompletionBody, Hints, Name, parse
from fairlead.gateway.streams import Call
from fairlead.gateway.tenants.door import Meter
from fairlead.model import Complete, RequestError
from fairlead.worker import wire

ID_PREFIX = "embd-"
PARAM = "input"


class EmbeddingBody(msgspec.Struct):
    """What a call brings."""

    model: str
    input: str | list[Any]
    """A text, texts, token ids, or lists of those."""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    """So many of the first, made to unit length again: for models that were trained for it."""
    user: Name | None = None
    safety_identifier: Name | None = None
    service_tier: str | None = None
    fairlead: Hints | None = None

    def completion(self) -> CompletionBody:
        """The same as a prompt with an answer of one token."""
        return CompletionBody(
            model=self.model,
            prompt=self.input,
            max_tokens=1,
            temperature=0.0,
            user=self.user,
            safety_identifier=self.safety_identifier,
            service_tier=self.service_tier,
            fairlead=self.fairlead,
        )


_body = msgspec.json.Decoder(EmbeddingBody)


def parse_embedding(data: bytes) -> EmbeddingBody:
    """Raises `RequestError` on anything that is not such a call."""
    return parse(_body, data)


class EmbeddingCall(Call):
    """A call whose reply is vectors."""

    def __init__(
        self,
        body: EmbeddingBody,
        asked: Asked,
        exchange: Exchange,
        driver: Driver,
        meter: Meter | None,
    ) -> None:
        self._body = body
        super().__init__(asked, exchange, driver, meter)

    def check(self, vector: bytes) -> None:
        """Raises `RequestError` where so many dimensions were asked for that it has not."""
        wanted, has = self._body.dimensions, len(vector) // 4
        if wanted is not None and wanted > has:
            raise RequestError(
                f"dimensions is {wanted}, and {self.asked.model} has {has}; ask for at most that",
                param="dimensions",
                code="invalid_value",
            )

    def _name(self) -> str:
        return ID_PREFIX + self.asked.requests[0].id.partition(".")[0]

    def _choice_kind(self) -> type[Choice]:
        return VectorChoice

    def _watched(self, choice: Choice) -> Outlet:
        """The one token of each is nobody's use: prompts alone are counted."""
        return choice

    def _whole(self) -> bytes:
        n = self.asked.prompt_tokens
        data = [
            {"object": "embedding", "index": choice.index, "embedding": self._shown(choice)}
            for choice in self.choices
        ]
        usage = {"prompt_tokens": n, "total_tokens": n}
        return quote({"object": "list", "data": data, "model": self.asked.model, "usage": usage})

    def _shown(self, choice: Choice) -> str | list[float]:
        assert isinstance(choice, VectorChoice)
        vector = shortened(choice.vector, self._body.dimensions)
        if self._body.encoding_format == "base64":
            return base64.b64encode(vector).decode()
        return [*struct.unpack(f"<{len(vector) // 4}f", vector)]


class VectorChoice(Choice):
    """The vector of one input."""

    __slots__ = ("vector",)

    vector: bytes

    def push(self, row: wire.Row) -> None:
        self.vector = row.vector

    def complete(self, action: Complete) -> None:
        if action.reason is not None:
            try:
                self._check()
            except RequestError as error:
                self.call.fail(error)
                return
        super().complete(action)

    def _check(self) -> None:
        assert isinstance(self.call, EmbeddingCall)
        vector = getattr(self, "vector", b"")
        if not vector or len(vector) % 4:
            raise RequestError(
                "the instance answered without a vector; try again",
                status=503,
                code="no_vector",
                kind="server_error",
            )
        self.call.check(vector)


def shortened(vector: bytes, dimensions: int | None) -> bytes:
    """Its first values at unit length; the whole as it is."""
    if dimensions is None or dimensions == len(vector) // 4:
        return vector
    values = struct.unpack_from(f"<{dimensions}f", vector)
    length = math.hypot(*values) or 1.0
    return struct.pack(f"<{dimensions}f", *[value / length for value in values])
