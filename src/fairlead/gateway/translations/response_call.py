"""Replies of OpenAI's Responses API, whole and streamed."""

from __future__ import annotations

from typing import Any

from fairlead.gateway.asked import Asked
from fairlead.gateway.choices import Choice
from fairlead.gateway.driver import Driver
from fairlead.gateway.exchange import Exchange
from fairlead.gateway.render import quote
from fairlead.gateway.streams import Call
from fairlead.gateway.tenants.door import Meter
from fairlead.gateway.tools.choices import CallingChoice
from fairlead.gateway.translations.events import event
from fairlead.gateway.translations.response_items import (
    StreamedItems,
    items,
    message,
    text_part,
)
from fairlead.gateway.translations.responses import ResponseBody
from fairlead.model import FinishReason, RequestError
from fairlead.worker import wire


class ResponseCall(Call):
    """A call with one choice, which speaks in output items: one message with one part of text, and
    where there are tools any number of messages and calls."""

    def __init__(
        self,
        body: ResponseBody,
        asked: Asked,
        exchange: Exchange,
        driver: Driver,
        meter: Meter | None = None,
    ) -> None:
        """`body` is told again in the reply."""
        super().__init__(asked, exchange, driver, meter)
        self._body = body
        self._n_events = 0

    def event(self, kind: str, **fields: Any) -> bytes:
        """The next event of the stream; they are numbered."""
        self._n_events += 1
        return event(f"response.{kind}", sequence_number=self._n_events - 1, **fields)

    def delta(self, text: str) -> bytes:
        return self.event("output_text.delta", **self._place, delta=text, logprobs=[])

    @property
    def _choice(self) -> Choice:
        return self.choices[0]

    @property
    def base(self) -> str:
        """What the ids of its items are made of."""
        return self._id.removeprefix("resp_")

    @property
    def _message_id(self) -> str:
        return f"msg_{self.base}"

    @property
    def _place(self) -> dict[str, Any]:
        """Of the only part there is."""
        return {"item_id": self._message_id, "output_index": 0, "content_index": 0}

    def _name(self) -> str:
        return "resp_" + self.asked.requests[0].id.partition(".")[0]

    def _choice_kind(self) -> type[Choice]:
        if self.asked.calls is not None:
            return StreamedItems if self.asked.stream else CallingChoice
        return StreamedOutput if self.asked.stream else Choice

    def _first_words(self) -> bytes:
        begun = self._response("in_progress", [])
        words = self.event("created", response=begun) + self.event("in_progress", response=begun)
        if self.asked.calls is not None:
            return words
        item = message(self._message_id, "in_progress", [])
        words += self.event("output_item.added", output_index=0, item=item)
        return words + self.event("content_part.added", **self._place, part=text_part(""))

    def _goodbye(self) -> bytes:
        output = self._output()
        if isinstance(self._choice, StreamedItems):
            done = self._choice.last_done(self._status)
        else:
            text = self._choice.text
            done = self.event("output_text.done", **self._place, text=text, logprobs=[])
            done += self.event("content_part.done", **self._place, part=text_part(text))
            done += self.event("output_item.done", output_index=0, item=output[0])
        return done + self.event(self._status, response=self._response(self._status, output))

    def _bad_end(self, error: RequestError) -> bytes:
        failed = self._response("failed", [])
        failed["error"] = {"code": "server_error", "message": str(error)}
        return self.event("failed", response=failed)

    def _whole(self) -> bytes:
        return quote(self._response(self._status, self._output()))

    def _output(self) -> list[dict[str, Any]]:
        if isinstance(self._choice, CallingChoice):
            return items(self._choice, self.base, self._status)
        return [message(self._message_id, self._status, [text_part(self._choice.text)])]

    @property
    def _status(self) -> str:
        return "incomplete" if self._choice.reason is FinishReason.LENGTH else "completed"

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        body = self._body
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        over = status in ("completed", "incomplete")
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": cut,
            "model": self.asked.model,
            "output": output,
            "usage": self._usage() if over else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "text": {"format": (body.text and body.text.format) or {"type": "text"}},
            "metadata": body.metadata or {},
            "user": body.user,
            "service_tier": self.asked.requests[0].objective.name,
            "store": False,
            "background": False,
            "previous_response_id": None,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "tool_choice": body.tool_choice or "auto",
            "tools": body.shown_tools(),
            "truncation": "disabled",
            "reasoning": {"effort": None, "summary": None},
        }

    def _usage(self) -> dict[str, Any]:
        n_prompt, n_output = self.asked.prompt_tokens, self._choice.n_tokens
        return {
            "input_tokens": n_prompt,
            "input_tokens_details": {"cached_tokens": self._cached_tokens()},
            "output_tokens": n_output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": n_prompt + n_output,
        }


class StreamedOutput(Choice):
    """The text of a response, as deltas; its last events tell it whole once more."""

    __slots__ = ()
    call: ResponseCall

    def push(self, row: wire.Row) -> None:
        super().push(row)
        if row.text:
            if not self.call.exchange.started:
                self.call.write(b"")
            self.call.write(self.call.delta(row.text))
