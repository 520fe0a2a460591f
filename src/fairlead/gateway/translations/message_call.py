"""Replies of Anthropic's Messages API, whole and streamed."""

from __future__ import annotations

from typing import Any

from fairlead.gateway.choices import Choice
from fairlead.gateway.render import quote
from fairlead.gateway.streams import Call
from fairlead.gateway.tools.choices import CallingChoice
from fairlead.gateway.translations import messages
from fairlead.gateway.translations.events import event
from fairlead.gateway.translations.message_blocks import StreamedBlocks, blocks
from fairlead.model import FinishReason, RequestError
from fairlead.text.call_format import MARKS
from fairlead.worker import wire

_BEFORE = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'
)
_AFTER = b"}}\n\n"


class MessageCall(Call):
    """A call with one choice, which speaks in content blocks: one block of text, or where there
    are tools any number of blocks."""

    @property
    def _choice(self) -> Choice:
        return self.choices[0]

    def begin(self) -> None:
        # Anthropic's clients look for it under this name.
        self.exchange.extra_headers.append((b"request-id", self._id.encode()))
        super().begin()

    def _name(self) -> str:
        return "msg_" + self.asked.requests[0].id.partition(".")[0]

    def _choice_kind(self) -> type[Choice]:
        if self.asked.calls is not None:
            return StreamedBlocks if self.asked.stream else CallingChoice
        return StreamedText if self.asked.stream else Choice

    def _first_words(self) -> bytes:
        # How much was cached is known at the end only; `message_delta` tells it.
        used = {"input_tokens": self.asked.prompt_tokens, "output_tokens": 0, **_CACHED_NOTHING}
        begun = event("message_start", message=self._message([], used))
        if self.asked.calls is not None:
            return begun
        block = {"type": "text", "text": ""}
        return begun + event("content_block_start", index=0, content_block=block)

    def _goodbye(self) -> bytes:
        choice = self._choice
        if isinstance(choice, StreamedBlocks):
            stopped = choice.stop()
        else:
            stopped = event("content_block_stop", index=0)
        told = event("message_delta", delta=self._stop(), usage=self._usage())
        return stopped + told + event("message_stop")

    def _bad_end(self, error: RequestError) -> bytes:
        return event("error", error=messages.error_fields(error))

    def _whole(self) -> bytes:
        choice = self._choice
        if isinstance(choice, CallingChoice):
            content = blocks(choice)
        else:
            content = [{"type": "text", "text": choice.text}] if choice.text else []
        return quote(self._message(content, self._usage()) | self._stop())

    def _message(self, content: list[dict[str, Any]], used: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self.asked.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": used,
        }

    def _stop(self) -> dict[str, Any]:
        choice = self._choice
        if isinstance(choice, CallingChoice) and choice.called:
            return {"stop_reason": "tool_use", "stop_sequence": None}
        if choice.stopped_by and choice.stopped_by not in MARKS:
            return {"stop_reason": "stop_sequence", "stop_sequence": choice.stopped_by}
        cut = choice.reason is FinishReason.LENGTH
        return {"stop_reason": "max_tokens" if cut else "end_turn", "stop_sequence": None}

    def _usage(self) -> dict[str, Any]:
        """Cached tokens are counted beside the others, not among them."""
        cached = self._cached_tokens()
        return {
            "input_tokens": self.asked.prompt_tokens - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": self._choice.n_tokens,
        }


class StreamedText(Choice):
    """The text of a message, as deltas of its only block."""

    __slots__ = ()

    def push(self, row: wire.Row) -> None:
        self.n_tokens = row.start + len(row.token_ids)
        if row.stopped_by:
            self.stopped_by = row.stopped_by
        if row.text:
            self.call.write(_BEFORE + quote(row.text) + _AFTER)


_CACHED_NOTHING = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
