"""Answers of the Responses API that may call functions: items of text and calls, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.gateway.tools.choices import CallingChoice, MadeCall, SaidText
from fairlead.text.call_reader import Called, Given, Piece, Said
from fairlead.worker import wire

if TYPE_CHECKING:
    from fairlead.gateway.translations.response_call import ResponseCall


def message(id_: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": id_,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def items(choice: CallingChoice, base: str, status: str) -> list[dict[str, Any]]:
    """The output of a whole answer. `base` is what the ids of its items are made of."""
    if not choice.parts:
        return [message(f"msg_{base}", status, [text_part("")])]
    return [_item(part, at, base, status) for at, part in enumerate(choice.parts)]


def _item(part: SaidText | MadeCall, at: int, base: str, status: str) -> dict[str, Any]:
    if isinstance(part, SaidText):
        return message(_id(part, at, base), status, [text_part(part.text)])
    return _function_call(part, at, base, status, part.arguments)


def _function_call(
    part: MadeCall, at: int, base: str, status: str, arguments: str
) -> dict[str, Any]:
    return {
        "id": _id(part, at, base),
        "type": "function_call",
        "call_id": part.id,
        "name": part.name,
        "arguments": arguments,
        "status": status,
    }


def _id(part: SaidText | MadeCall, at: int, base: str) -> str:
    kind = "msg" if isinstance(part, SaidText) else "fc"
    return f"{kind}_{base}_{at}" if at else f"{kind}_{base}"


class StreamedItems(CallingChoice):
    """Each item is added, grows and is done before the next one is added. They are the parts."""

    __slots__ = ("_n_added", "_n_done")
    call: ResponseCall

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._n_added = self._n_done = 0

    def last_done(self, status: str) -> bytes:
        """Ends the item that is open."""
        if self._n_done == self._n_added:
            return b""
        at = self._n_done
        self._n_done += 1
        part, event, base = self.parts[at], self.call.event, self.call.base
        if isinstance(part, SaidText):
            place = {**self._place(at), "content_index": 0}
            told = event("output_text.done", **place, text=part.text, logprobs=[])
            told += event("content_part.done", **place, part=text_part(part.text))
        else:
            told = event(
                "function_call_arguments.done",
                **self._place(at),
                name=part.name,
                arguments=part.arguments,
            )
        item = _item(part, at, base, status)
        return told + event("output_item.done", output_index=at, item=item)

    def _show(self, pieces: list[Piece], row: wire.Row | None) -> None:
        for piece in pieces:
            if not self.call.exchange.started:
                self.call.write(b"")
            self.call.write(self._shown(piece))

    def _shown(self, piece: Piece) -> bytes:
        event = self.call.event
        match piece:
            case Said(text):
                begun = b"" if self._in_text() else self._add()
                place = {**self._place(self._n_added - 1), "content_index": 0}
                return begun + event("output_text.delta", **place, delta=text, logprobs=[])
            case Called():
                return self._add()
            case Given(_, text):
                place = self._place(self._n_added - 1)
                return event("function_call_arguments.delta", **place, delta=text)

    def _in_text(self) -> bool:
        is_open = self._n_done < self._n_added
        return is_open and isinstance(self.parts[self._n_done], SaidText)

    def _add(self) -> bytes:
        """The next part, which is empty so far as clients know."""
        done = self.last_done("completed")
        at, event, base = self._n_added, self.call.event, self.call.base
        self._n_added += 1
        part = self.parts[at]
        if isinstance(part, MadeCall):
            item = _function_call(part, at, base, "in_progress", "")
            return done + event("output_item.added", output_index=at, item=item)
        item = message(_id(part, at, base), "in_progress", [])
        added = event("output_item.added", output_index=at, item=item)
        place = {**self._place(at), "content_index": 0}
        return done + added + event("content_part.added", **place, part=text_part(""))

    def _place(self, at: int) -> dict[str, Any]:
        return {"item_id": _id(self.parts[at], at, self.call.base), "output_index": at}
