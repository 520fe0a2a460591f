"""The continuations of a call: what comes out of the fleet for each, and how it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.gateway import failures
from fairlead.gateway.render import Logprobs, quote, whole_choice
from fairlead.model import Complete, FinishReason, Reject, Request
from fairlead.worker import wire

if TYPE_CHECKING:
    from fairlead.gateway.streams import Call


class Choice:
    """One continuation of a call, without streaming: gathers until the end."""

    __slots__ = (
        "_logprobs",
        "_texts",
        "cached_tokens",
        "call",
        "index",
        "n_tokens",
        "reason",
        "request",
        "stopped_by",
    )

    def __init__(self, call: Call, index: int, request: Request) -> None:
        self.call = call
        self.index = index
        self.request = request
        self.n_tokens = 0
        self.cached_tokens = 0
        self.reason: FinishReason | None = None
        self.stopped_by = ""
        """The stop string that ended it, where the engine said so. Followed where it is shown."""
        self._texts: list[str] = []
        self._logprobs: list[object] = []

    def push(self, row: wire.Row) -> None:
        self.n_tokens = row.start + len(row.token_ids)
        self._texts.append(row.text)
        if row.logprobs:
            self._logprobs += row.logprobs
        if row.stopped_by:
            self.stopped_by = row.stopped_by

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def complete(self, action: Complete) -> None:
        if action.reason is None:
            self.call.fail(failures.of_end(action))
            return
        self.cached_tokens = action.cached_tokens
        self.reason = action.reason
        self.call.close_choice(self._last_words())

    @property
    def finish(self) -> str | None:
        """Why it ended, as clients are told."""
        return self.reason.value if self.reason else None

    def reject(self, action: Reject) -> None:
        self.call.fail(failures.of_rejection(action))

    def let_go(self) -> None:
        """The call is over: this refers to nothing that leads back here."""

    def whole(self) -> dict[str, Any]:
        """The choice as it stands in a reply that is not streamed."""
        asked = self.call.asked
        shown = Logprobs(asked.chat).show(self._logprobs) if asked.logprobs else None
        return whole_choice(asked.chat, self.index, self.text, shown, self.finish)

    def _last_words(self) -> bytes:
        """What is streamed when this choice, though perhaps not the call, has ended."""
        return b""


class StreamedChoice(Choice):
    """A streamed continuation that shows text and nothing else: the path that must be short."""

    __slots__ = ("_after", "_before", "_write")

    def __init__(self, call: Call, index: int, request: Request) -> None:
        super().__init__(call, index, request)
        assert call.chunks is not None
        self._before, self._after = call.chunks.around_text(index)
        self._write = self._write_first

    def push(self, row: wire.Row) -> None:
        self.n_tokens = row.start + len(row.token_ids)
        if row.text:
            self._write(self._before + quote(row.text) + self._after)

    def let_go(self) -> None:
        self._write = _nowhere

    def _write_first(self, data: bytes) -> None:
        self._write = self.call.exchange.write
        self.call.write(data)

    def _last_words(self) -> bytes:
        assert self.call.chunks is not None
        return self.call.chunks.choice(self.index, None, finish=self.finish)


class DetailedChoice(StreamedChoice):
    """A streamed continuation with log-probabilities or positions: a chunk for every row."""

    __slots__ = ("_shape",)

    def __init__(self, call: Call, index: int, request: Request) -> None:
        super().__init__(call, index, request)
        self._shape = Logprobs(call.asked.chat)

    def push(self, row: wire.Row) -> None:
        self.n_tokens = row.start + len(row.token_ids)
        call = self.call
        assert call.chunks is not None
        shown = self._shape.show(row.logprobs or ()) if call.asked.logprobs else None
        place = (row.start, len(row.token_ids)) if call.asked.positions else None
        self._write(call.chunks.choice(self.index, row.text, logprobs=shown, position=place))


def _nowhere(data: bytes) -> None:
    """Of a choice whose call is over."""
