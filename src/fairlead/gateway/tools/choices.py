"""Continuations that may call tools: their text is read for calls on its way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.gateway.choices import Choice
from fairlead.gateway.render import Logprobs, whole_choice
from fairlead.model import Complete, FinishReason, Request
from fairlead.text.call_reader import Called, CallReader, Given, Piece, Said
from fairlead.worker import wire

if TYPE_CHECKING:
    from fairlead.gateway.streams import Call


class MadeCall:
    """A call of a tool, as far as it has come."""

    __slots__ = ("_arguments", "id", "name")

    def __init__(self, id: str, name: str) -> None:
        self.id = id
        self.name = name
        self._arguments: list[str] = []

    @property
    def arguments(self) -> str:
        """JSON, where it came to its end."""
        return "".join(self._arguments)

    def add(self, arguments: str) -> None:
        self._arguments.append(arguments)


class SaidText:
    """Text between calls."""

    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, text: str) -> None:
        self._texts.append(text)


class CallingChoice(Choice):
    """Gathers until the end, in the order in which it came."""

    __slots__ = ("_reader", "parts")

    def __init__(self, call: Call, index: int, request: Request) -> None:
        super().__init__(call, index, request)
        offered = call.asked.calls
        assert offered is not None
        self._reader = CallReader(offered.format, offered.names, only_one=offered.only_one)
        self.parts: list[SaidText | MadeCall] = []

    @property
    def text(self) -> str:
        return "".join([part.text for part in self.parts if isinstance(part, SaidText)])

    @property
    def calls(self) -> list[MadeCall]:
        return [part for part in self.parts if isinstance(part, MadeCall)]

    @property
    def called(self) -> bool:
        """It has ended with calls, and waits for what they bring."""
        return self._reader.n_calls > 0 and self.reason is FinishReason.STOP

    @property
    def finish(self) -> str | None:
        return "tool_calls" if self.called else super().finish

    def push(self, row: wire.Row) -> None:
        self.n_tokens = row.start + len(row.token_ids)
        if row.logprobs:
            self._logprobs += row.logprobs
        if row.stopped_by:
            self.stopped_by = row.stopped_by
        self._show(self._taken(self._reader.feed(row.text, plain=row.plain)), row)

    def complete(self, action: Complete) -> None:
        if action.reason is not None:
            self._show(self._taken(self._reader.flush()), None)
        super().complete(action)

    def whole(self) -> dict[str, Any]:
        asked = self.call.asked
        shown = Logprobs(asked.chat).show(self._logprobs) if asked.logprobs else None
        calls = [_shown_call(call) for call in self.calls]
        return whole_choice(asked.chat, self.index, self.text, shown, self.finish, calls)

    def _taken(self, pieces: list[Piece]) -> list[Piece]:
        for piece in pieces:
            match piece:
                case Said(text):
                    if not self.parts or not isinstance(self.parts[-1], SaidText):
                        self.parts.append(SaidText())
                    self.parts[-1].add(text)
                case Called(index, name):
                    self.parts.append(MadeCall(self.call_id(index), name))
                case Given(_, text):
                    self.parts[-1].add(text)
        return pieces

    def call_id(self, index: int) -> str:
        """The same for every client that asks twice, and another for every call."""
        return f"call_{self.request.id.replace('.', '_')}_{index}"

    def _show(self, pieces: list[Piece], row: wire.Row | None) -> None:
        """Streams what became certain; with `row`, or at the end."""


class StreamedCalls(CallingChoice):
    """As deltas of a chat: first a call's id and name, then its arguments as they come."""

    __slots__ = ("_shape",)

    def __init__(self, call: Call, index: int, request: Request) -> None:
        super().__init__(call, index, request)
        self._shape = Logprobs(chat=True)

    def _show(self, pieces: list[Piece], row: wire.Row | None) -> None:
        asked, chunks = self.call.asked, self.call.chunks
        assert chunks is not None
        deltas = [self._delta(piece) for piece in pieces]
        if row is None or not (asked.logprobs or asked.positions):
            for delta in deltas:
                self.call.write(chunks.delta(self.index, delta))
            return
        # Every row has a chunk that tells what it is made of, also where it shows nothing yet.
        shown = self._shape.show(row.logprobs or ()) if asked.logprobs else None
        place = (row.start, len(row.token_ids)) if asked.positions else None
        first, *others = deltas or [{}]
        self.call.write(chunks.delta(self.index, first, shown, place))
        for delta in others:
            self.call.write(chunks.delta(self.index, delta))

    def _delta(self, piece: Piece) -> dict[str, Any]:
        match piece:
            case Said(text):
                return {"content": text}
            case Called(index, name):
                call = MadeCall(self.call_id(index), name)
                return {"tool_calls": [{"index": index, **_shown_call(call)}]}
            case Given(index, text):
                return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}

    def _last_words(self) -> bytes:
        assert self.call.chunks is not None
        return self.call.chunks.choice(self.index, None, finish=self.finish)


def _shown_call(call: MadeCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
