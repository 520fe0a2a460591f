"""The answers that a server is giving: one stream each, and one frame for what came together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection
from typing import Protocol

from fairlead.model import RefuseWhy, Request, RequestId
from fairlead.worker.opaque.answer import Answer
from fairlead.worker.opaque.chunks import Chunk
from fairlead.worker.opaque.dialect import Dialect
from fairlead.worker.opaque.embedding import fetch_vector
from fairlead.worker.opaque.errors import ServerError, What
from fairlead.worker.opaque.load import Load
from fairlead.worker.opaque.setting import Setting
from fairlead.worker.wire import End, Frame, Message, Rejected, Row

USAGE_S = 1.0
"""How long to wait, after an answer's end, for the word in which its cached tokens stand."""
GAP_EVERY_S = 0.05
"""One gap between tokens in this time is held against the latency model."""
_REFUSALS = {
    What.BUSY: RefuseWhy.QUEUE_FULL,
    What.TOO_LONG: RefuseWhy.TOO_LONG,
    What.UNSUPPORTED: RefuseWhy.UNSUPPORTED,
}
"""What a server says of one request, and not of itself."""


class Owner(Protocol):
    """Whom this tells."""

    def send(self, message: Message) -> None: ...
    def changed(self) -> None:
        """Something began to stream, or ended: the next report had better be soon."""
        ...

    def answered(self) -> None:
        """A first token came: the server works."""
        ...

    def busy(self, seconds: float | None) -> None:
        """It wants to be left alone for a while."""
        ...

    def doubt(self) -> None:
        """Something broke; whether the server is still there should be looked at now."""
        ...

    def fell(self, why: str) -> None:
        """It is no use any more."""
        ...


class Asking:
    """See the module."""

    def __init__(self, setting: Setting, dialect: Dialect, load: Load, owner: Owner) -> None:
        self._set = setting
        self._dialect = dialect
        self._load = load
        self._owner = owner
        self._answers: dict[RequestId, Answer] = {}
        self._tasks: dict[RequestId, asyncio.Task[None]] = {}
        self._rows: list[Row] = []
        self._ends: list[End] = []
        self._flush_due = False
        self._gap_s = float("-inf")

    @property
    def answers(self) -> Collection[Answer]:
        return self._answers.values()

    def get(self, request: RequestId) -> Answer | None:
        return self._answers.get(request)

    @property
    def n_running(self) -> int:
        return sum(answer.begun for answer in self._answers.values())

    def begin(self, request: Request, attempt: int, produced: list[int]) -> None:
        now, dialect = time.monotonic(), self._dialect
        answer = Answer(
            request, attempt, produced, self._set.words, now, returns_ids=dialect.returns_ids
        )
        self._answers[request.id] = answer
        self._load.asked(answer, now)
        listening = (
            self._embed(answer)
            if request.embeds
            else self._listen(answer, dialect.body(request, produced, self._set.words))
        )
        self._tasks[request.id] = asyncio.create_task(listening)

    def drop(self, answer: Answer) -> None:
        """Nobody wants the rest; the server sees us hang up."""
        if self._answers.get(answer.id) is answer:
            del self._answers[answer.id]
            task = self._tasks.pop(answer.id)
            if task is not asyncio.current_task():
                task.cancel()
            if not self._answers:
                self._load.rests(time.monotonic())

    def drop_all(self) -> None:
        for answer in list(self._answers.values()):
            self.drop(answer)

    # ---------------------------------------------------------------- one stream

    async def _listen(self, answer: Answer, body: dict[str, object]) -> None:
        try:
            stream = self._set.api.stream(self._dialect.path, body)
            async with contextlib.aclosing(stream):
                async for chunk in stream:
                    if self._heard(answer, chunk):
                        break
        except ServerError as trouble:
            if answer.reason is None:
                self._troubled(answer, trouble)
                return
        # Also where the stream was cut off after the answer's end: what is missing nobody needs.
        self._finish(answer)

    async def _embed(self, answer: Answer) -> None:
        set_, within_s = self._set, self._set.patience.first_token_s
        ask = (set_.api, self._dialect, answer.request, set_.words, within_s)
        try:
            vector = await fetch_vector(*ask)
        except ServerError as trouble:
            self._troubled(answer, trouble)
            return
        self._tell(answer, answer.take_vector(vector), True, time.monotonic())
        self._finish(answer)

    def _heard(self, answer: Answer, chunk: Chunk) -> bool:
        """Whether nothing more has to be listened to."""
        if chunk.usage is not None:
            answer.use(chunk.usage)
            if answer.reason is not None:
                return True
        for choice in chunk.choices:
            now, first = time.monotonic(), not answer.begun
            row = answer.take(choice)
            if row is not None:
                self._tell(answer, row, first, now)
            answer.heard_s = now
            if answer.reason is not None and choice.finish_reason is None:
                return True  # A stop string of which the server knows nothing.
        return False

    def _tell(self, answer: Answer, row: Row, first: bool, now: float) -> None:
        self._rows.append(row)
        self._flush_soon()
        if first:
            self._load.began(answer)
            self._owner.answered()
            self._owner.changed()
        elif now - self._gap_s >= GAP_EVERY_S and row.token_ids:
            self._gap_s = now
            running = [one for one in self._answers.values() if one.begun]
            context = sum(one.context_tokens for one in running)
            self._load.gap(now - answer.heard_s, len(row.token_ids), len(running), context)

    def _finish(self, answer: Answer) -> None:
        if self._answers.get(answer.id) is not answer:
            return
        self._load.ended(answer)
        self._ends.append(answer.end())
        self._flush_soon()
        self.drop(answer)
        self._owner.changed()

    def _troubled(self, answer: Answer, trouble: ServerError) -> None:
        if trouble.what in (What.KEY, What.MISSING):
            self._owner.fell(str(trouble))
        elif (why := _REFUSALS.get(trouble.what)) is not None:
            if trouble.what is What.BUSY:
                self._owner.busy(trouble.retry_after_s)
            self._refuse(answer, why, str(trouble))
        else:
            answer.broken = str(trouble)
            self._owner.doubt()

    def _refuse(self, answer: Answer, why: RefuseWhy, said: str) -> None:
        if self._answers.get(answer.id) is answer:
            self.flush()
            self._owner.send(Rejected(answer.id, answer.attempt, why, said))
            self.drop(answer)
            self._owner.changed()

    # ---------------------------------------------------------------- looked at now and then

    def look(self) -> None:
        """Breaks streams that stand still, and ends those whose last word does not come."""
        now, patience = time.monotonic(), self._set.patience
        for answer in list(self._answers.values()):
            silent_s = now - answer.heard_s
            longest_s = patience.next_token_s if answer.begun else patience.first_token_s
            if answer.reason is not None:
                if silent_s > USAGE_S:
                    self._finish(answer)
            elif not answer.broken and silent_s > longest_s:
                self._tasks[answer.id].cancel()
                answer.broken = f"no token for {silent_s:.0f} s"
                self._owner.doubt()

    def give_up_broken(self) -> int:
        """Streams that broke off while the server is well go elsewhere one by one; how many."""
        broken = [answer for answer in self._answers.values() if answer.broken]
        for answer in broken:
            self._refuse(answer, RefuseWhy.FAILED, answer.broken)
        return len(broken)

    # ---------------------------------------------------------------- frames

    def _flush_soon(self) -> None:
        """Once for all that is heard in this turn of the event loop: what an engine's step brought
        mostly comes together."""
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        self._flush_due = False
        if self._rows or self._ends:
            rows, ends = self._rows, self._ends
            self._rows, self._ends = [], []
            self._owner.send(Frame(rows, ends))
