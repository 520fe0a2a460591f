"""One answer that a server is giving: from its chunks to the rows that the gateway gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from fairlead.model import FinishReason, Request, RequestId
from fairlead.text.call_format import CallFormat
from fairlead.worker.opaque.calls import CallWriter
from fairlead.worker.opaque.chunks import Choice, Usage
from fairlead.worker.opaque.errors import ServerError, What
from fairlead.worker.streams import Assembler
from fairlead.worker.wire import End, Row

_REASONS = {"length": FinishReason.LENGTH}
"""What a server may call an end; everything else is a stop."""
_GIVEN_UP = ("abort", "error", "cancelled")
"""No ends of an answer: vLLM and SGLang say these when they stop in the middle of it."""
_TOKEN_ID = "token_id:"


class Words(Protocol):
    """What is needed of a tokenizer. `worker.words.Vocabulary` is one."""

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    def assembler(self, request: Request, produced: Sequence[int]) -> Assembler: ...
    def token_text(self, token_id: int) -> str: ...
    def tokens_of(self, text: str) -> Sequence[int]:
        """The tokens of `text` and nothing beside it."""
        ...


class Answer:
    """See the module. Positions count on from what was produced elsewhere."""

    __slots__ = (
        "_assembler",
        "_calls",
        "_ends",
        "_held",
        "_returns_ids",
        "_words",
        "attempt",
        "begun",
        "broken",
        "cached_tokens",
        "heard_s",
        "n_produced",
        "reason",
        "request",
        "submitted_s",
    )

    def __init__(
        self,
        request: Request,
        attempt: int,
        produced: Sequence[int],
        words: Words,
        now: float,
        *,
        returns_ids: bool,
    ) -> None:
        self.request = request
        self.attempt = attempt
        self.n_produced = len(produced)
        self.begun = False
        """A first token has come from here."""
        self.broken = ""
        """Why no more will come, where the stream was cut off; empty while it runs."""
        self.submitted_s = self.heard_s = now
        """When the last token came, or it was asked for."""
        self.reason: FinishReason | None = None
        """Set once it has ended by itself."""
        self.cached_tokens = 0
        self._words = words
        self._returns_ids = returns_ids
        self._assembler = words.assembler(request, produced)
        self._calls = CallWriter(CallFormat(request.call_format)) if request.call_format else None
        self._ends = words.ends.union(request.sampling.stop_token_ids)

    @property
    def id(self) -> RequestId:
        return self.request.id

    @property
    def context_tokens(self) -> int:
        return self.request.prompt_tokens + self.n_produced

    def end(self) -> End:
        assert self.reason is not None, f"{self.id} has not ended"
        return End(self.id, self.attempt, self.reason, self.cached_tokens)

    def take_vector(self, vector: bytes) -> Row:
        """The row of a request that embeds, with which it has ended."""
        self.reason = FinishReason.LENGTH
        row = self._row([0], "", None)
        return msgspec.structs.replace(row, vector=vector)

    def use(self, usage: Usage) -> None:
        self.cached_tokens = min(usage.cached_tokens, self.request.prompt_tokens)

    def take(self, choice: Choice) -> Row | None:
        """The row of a chunk; None where it brought no token. Sets `reason` at the end."""
        if self.reason is not None:
            return None
        if choice.token_ids is not None and self._returns_ids:
            row = self._take_ids(choice.token_ids, choice)
        else:
            row = self._take_chat(choice)
        if self.reason is None:
            self.reason = self._reason(choice.finish_reason)
        return row

    def _reason(self, finish: str | None) -> FinishReason | None:
        if finish in _GIVEN_UP:
            raise ServerError(What.ILL, f"it gave the answer up ({finish})")
        if finish is None:
            return FinishReason.LENGTH if self._is_full(0) else None
        return _REASONS.get(finish, FinishReason.STOP)

    def _take_ids(self, token_ids: Sequence[int], choice: Choice) -> Row | None:
        """The text is made here, so that it does not matter which engine made which token."""
        text, n = self._assemble(self._room(token_ids), choice.finish_reason)
        if n == 0 and not text:
            return None
        logprobs = self._logprobs_of(choice.logprobs, token_ids[:n])
        return self._row(list(token_ids[:n]), text, logprobs)

    def _assemble(self, token_ids: Sequence[int], finish: str | None) -> tuple[str, int]:
        """Their text, and how many of them count: those after a stop string do not."""
        parts: list[str] = []
        for n, token in enumerate(token_ids, start=1):
            last = finish is not None and n == len(token_ids)
            if last and finish == "stop" and token in self._ends:
                break  # It counts as produced, and is not shown.
            text, stopped = self._assembler.feed((token,))
            parts.append(text)
            if stopped:
                self.reason = FinishReason.STOP
                return "".join(parts), n
        if finish is not None or self._is_full(len(token_ids)):
            parts.append(self._assembler.flush())
        return "".join(parts), len(token_ids)

    def _take_chat(self, choice: Choice) -> Row | None:
        """Calls of tools come as text, in the way of the model."""
        if self._calls is None or choice.delta is None:
            return self._take_text(_text(choice), choice)
        said = choice.delta.content or ""
        closed = self._calls.close() if said else ""
        # A call that was cut short is shown as far as it came.
        whole = choice.finish_reason not in (None, "length")
        called = self._calls.write(choice.delta.tool_calls or (), whole)
        text = closed + said + called
        return self._take_text(text, choice, plain=text == said)

    def _take_text(self, text: str, choice: Choice, *, plain: bool = False) -> Row | None:
        """The server's own text. Tokens are made of it for the fleet's books and for whoever goes
        on with it: as many as our tokenizer makes of it, which need not be as many as it was."""
        token_ids = self._words.tokens_of(text) if text else ()
        room = self._room(token_ids)
        if not room:
            return None
        return self._row(list(room), text, _entries(choice.logprobs), plain=plain)

    def _room(self, token_ids: Sequence[int]) -> Sequence[int]:
        """No more than were asked for."""
        return token_ids[: self.request.max_tokens - self.n_produced]

    def _is_full(self, n: int) -> bool:
        return self.n_produced + n >= self.request.max_tokens

    def _row(
        self,
        token_ids: list[int],
        text: str,
        logprobs: list[object] | None,
        *,
        plain: bool = False,
    ) -> Row:
        start = self.n_produced
        self.n_produced += len(token_ids)
        self.begun = True
        return Row(self.id, self.attempt, start, token_ids, text, logprobs, plain=plain)

    def _logprobs_of(
        self, logprobs: Mapping[str, Any] | None, token_ids: Sequence[int]
    ) -> list[object] | None:
        """Entries as `wire.Row` has them, for tokens whose ids are known."""
        if logprobs is None or self.request.sampling.logprobs is None:
            return None
        chances = logprobs.get("token_logprobs") or ()
        tops = logprobs.get("top_logprobs") or ()
        return [
            [
                chances[i] if i < len(chances) and chances[i] is not None else -9999.0,
                self._words.token_text(token),
                [
                    [self._named(name), chance]
                    for name, chance in ((tops[i] if i < len(tops) else None) or {}).items()
                ],
            ]
            for i, token in enumerate(token_ids)
        ]

    def _named(self, name: str) -> str:
        number = name.removeprefix(_TOKEN_ID)
        if number is name or not number.isdecimal():
            return name
        return self._words.token_text(int(number))


def _text(choice: Choice) -> str:
    if choice.delta is not None:
        return choice.delta.content or ""
    return choice.text or ""


def _entries(logprobs: Mapping[str, Any] | None) -> list[object] | None:
    """A server's own entries, of a completion or of a chat, as `wire.Row` has them."""
    if logprobs is None:
        return None
    if isinstance(content := logprobs.get("content"), list):
        return [
            [
                one["logprob"],
                one["token"],
                [[top["token"], top["logprob"]] for top in one.get("top_logprobs") or ()],
            ]
            for one in content
        ]
    tops = logprobs.get("top_logprobs") or ()
    return [
        [chance, token, [[*pair] for pair in ((tops[i] if i < len(tops) else None) or {}).items()]]
        for i, (token, chance) in enumerate(
            zip(logprobs.get("tokens") or (), logprobs.get("token_logprobs") or (), strict=False)
        )
    ]
