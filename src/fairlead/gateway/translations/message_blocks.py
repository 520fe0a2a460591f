"""Answers of the Messages API that may use tools: blocks of text and of calls, in their order."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.gateway.tools.choices import CallingChoice, MadeCall, SaidText
from fairlead.gateway.translations.events import event
from fairlead.text.call_reader import Called, Given, Piece, Said
from fairlead.worker import wire


def blocks(choice: CallingChoice) -> list[dict[str, Any]]:
    """The content of a whole answer."""
    return [
        {"type": "text", "text": part.text} if isinstance(part, SaidText) else _tool_use(part)
        for part in choice.parts
    ]


class StreamedBlocks(CallingChoice):
    """Each block begins, grows and stops before the next one does."""

    __slots__ = ("_in_text", "_n_begun", "_n_stopped")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._n_begun = self._n_stopped = 0
        self._in_text = False

    def stop(self) -> bytes:
        """Ends the block that is open."""
        if self._n_begun == self._n_stopped:
            return b""
        self._n_stopped += 1
        self._in_text = False
        return event("content_block_stop", index=self._n_stopped - 1)

    def _show(self, pieces: list[Piece], row: wire.Row | None) -> None:
        for piece in pieces:
            self.call.write(self._shown(piece))

    def _shown(self, piece: Piece) -> bytes:
        match piece:
            case Said(text):
                begun = b"" if self._in_text else self._begin({"type": "text", "text": ""})
                self._in_text = True
                return begun + self._delta({"type": "text_delta", "text": text})
            case Called(index, name):
                return self._begin(
                    {"type": "tool_use", "id": self.call_id(index), "name": name, "input": {}}
                )
            case Given(_, text):
                return self._delta({"type": "input_json_delta", "partial_json": text})

    def _begin(self, block: dict[str, Any]) -> bytes:
        stopped = self.stop()
        self._n_begun += 1
        begun = event("content_block_start", index=self._n_begun - 1, content_block=block)
        return stopped + begun

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return event("content_block_delta", index=self._n_begun - 1, delta=delta)


def _tool_use(call: MadeCall) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, RecursionError):
        given = {}  # The answer was cut in the middle of it.
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}
