"""From token ids to what clients see: text, stop strings and log-probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fairlead.model import (
    Finished,
    FinishReason,
    InstanceEvent,
    Preempted,
    Produced,
    Request,
    RequestId,
    Tokens,
)
from fairlead.worker.executor import Logprob, Output
from fairlead.worker.wire import End, Frame, Row


class Assembler(Protocol):
    """Text of one sequence, token by token. See `fairlead.text`."""

    @property
    def stopped_by(self) -> str:
        """The stop string that was met; empty until then."""
        ...

    def feed(self, token_ids: Sequence[int]) -> tuple[str, bool]:
        """Text that became certain, and whether a stop string ended it."""
        ...

    def flush(self) -> str:
        """Text still held back, at the end of the sequence."""
        ...


class Words(Protocol):
    """What streams need of a tokenizer."""

    def assembler(self, request: Request, produced: Sequence[int]) -> Assembler:
        """Goes on after the output tokens `produced`, whose text the client has as far as it was
        certain."""
        ...

    def token_text(self, token_id: int) -> str:
        """One token by itself, as log-probabilities show it."""
        ...


@dataclass(slots=True)
class _Stream:
    assembler: Assembler
    text: str = ""
    """Text of the step that was read last, not yet in a frame."""
    ended: bool = False
    """A stop string or stop token ended it: nothing that is held back follows."""
    logprobs: list[object] | None = field(default=None)
    vector: bytes = b""


class Streams:
    """Every sequence inside, with the text that is under way to its client."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._streams: dict[RequestId, _Stream] = {}

    def open(self, request: Request, produced: Sequence[int]) -> None:
        self._streams[request.id] = _Stream(self._words.assembler(request, produced))

    def close(self, request_id: RequestId) -> None:
        self._streams.pop(request_id, None)

    def read(self, output: Output) -> dict[RequestId, FinishReason]:
        """Takes in the tokens of one iteration; returns the sequences that end with theirs."""
        stopped = dict(output.stopped)
        for request_id, token in output.tokens.items():
            stream = self._streams[request_id]
            if request_id in stopped:
                # A stop token is not shown; what was held back before it is.
                stream.text = stream.assembler.flush()
                stream.ended = True
            else:
                stream.text, stream.ended = stream.assembler.feed((token,))
                if stream.ended:
                    stopped[request_id] = FinishReason.STOP
            stream.vector = output.vectors.get(request_id, b"")
            logprob = output.logprobs.get(request_id)
            stream.logprobs = None if logprob is None else [self._on_wire(token, logprob)]
        return stopped

    def frame(self, events: Iterable[InstanceEvent]) -> Frame:
        """What the step that was read last brought, as the gateway is told. Sequences that ended
        are closed."""
        produced: list[Produced] = []
        finished: dict[RequestId, Finished] = {}
        preempted: list[tuple[RequestId, int]] = []
        for event in events:
            match event:
                case Tokens():
                    produced += [row for row in event.rows if isinstance(row, Produced)]
                case Finished():
                    finished[event.request] = event
                case Preempted():
                    preempted.append((event.request, event.attempt))
        rows = [self._row(row, row.request in finished) for row in produced]
        for request_id in finished:
            self.close(request_id)
        ended = [End(e.request, e.attempt, e.reason, e.cached_tokens) for e in finished.values()]
        return Frame(rows, ended, preempted)

    def _row(self, row: Produced, last: bool) -> Row:
        stream = self._streams[row.request]
        text = stream.text
        if last and not stream.ended:
            text += stream.assembler.flush()
        stopped_by = stream.assembler.stopped_by if last else ""
        token_ids = [*row.token_ids]
        return Row(
            row.request,
            row.attempt,
            row.start,
            token_ids,
            text,
            stream.logprobs,
            stopped_by,
            vector=stream.vector,
        )

    def _on_wire(self, token: int, logprob: Logprob) -> object:
        text = self._words.token_text
        top = [[text(other), chance] for other, chance in logprob.top]
        return [logprob.logprob, text(token), top]
