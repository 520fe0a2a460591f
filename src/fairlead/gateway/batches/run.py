"""One batch that this gateway works on: lines out of its file, answers into its results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from fairlead.gateway import failures
from fairlead.gateway.batches import lines
from fairlead.gateway.batches.done import Done
from fairlead.gateway.batches.lines import Broken, Line
from fairlead.gateway.batches.reader import Raw, Reader
from fairlead.gateway.batches.results import Results
from fairlead.gateway.batches.sender import Answer, Sender
from fairlead.gateway.streams import Call
from fairlead.gateway.tenants.caller import Caller
from fairlead.model import RequestError
from fairlead.store.batch import Batch, Checkpoint

MAX_AHEAD = 100_000
"""Lines that may be done before one that takes long: a bound on what is remembered of them."""
MAX_UNWRITTEN = 4096
MAX_LET_DOWN = 5
"""Times that instances may die under a line, or fail at it, before that is its result."""
LET_DOWN = frozenset(
    {"instances_lost", "no_instance_left", "nowhere_fits", "cannot_go_on", "no_vector"}
)
LONGEST_PAUSE_S = 30.0


@dataclass
class Written:
    """Results that wait to be written, all of one moment."""

    outputs: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.done)


class Run:
    """Holds some lines of the batch at a time. It does no input or output of its own: `service.py`
    brings lines, and takes results away."""

    def __init__(
        self,
        batch: Batch,
        input: Path,
        results: Results,
        done: Done,
        service_tier: str,
        max_line_bytes: int,
        news: Callable[[], None],
    ) -> None:
        """`news` is called when a line has ended."""
        self.batch = batch
        self.results = results
        self.reader = Reader(input, done.low, done.low_offset, max_line_bytes)
        self.done = done
        self.exhausted = False
        """The end of the file was read."""
        self.in_flight: dict[int, tuple[Line, Call | None]] = {}
        """Lines that were sent; without a call as long as that is being made."""
        self.not_before_s = float("-inf")
        """The tenant is over its limits, or the fleet full, until then."""
        self._service_tier = service_tier
        self._max_line_bytes = max_line_bytes
        self._news = news
        self._raw: deque[Raw] = deque()
        self._ready: deque[Line] = deque()
        self._let_down: dict[int, int] = {}
        self._unwritten = Written()
        self.closed = False
        """No answer counts any more."""

    # ---------------------------------------------------------------- what is next

    @property
    def wants_lines(self) -> bool:
        return not self.exhausted and len(self._raw) < 64

    def bring(self, raws: list[Raw]) -> None:
        self.exhausted = not raws
        for raw in raws:
            done = raw.n in self.done
            self.done.read(raw.n, raw.end)
            if not done:
                self._raw.append(raw)

    def next(self) -> Line | None:
        """The next line that can be sent; what is broken has its result at once."""
        while not self._ready and self._raw and self._may_go_on:
            self._parse(self._raw.popleft())
        return self._ready[0] if self._ready else None

    @property
    def _may_go_on(self) -> bool:
        room = len(self._unwritten.done) < MAX_UNWRITTEN
        return room and len(self.done.ahead) < MAX_AHEAD

    def _parse(self, raw: Raw) -> None:
        if not raw.is_whole:
            said = f"line {raw.n + 1} is longer than {self._max_line_bytes} bytes"
            self._fail(Broken(raw.n, None, RequestError(said, code="line_too_long")))
            return
        batch = self.batch
        line = lines.parse(raw.data, raw.n, batch.id, batch.endpoint, self._service_tier)
        if isinstance(line, Broken):
            self._fail(line)
        else:
            self._ready.append(line)

    @property
    def is_over(self) -> bool:
        """Every line has a result, and all are written."""
        left = self._raw or self._ready or self.in_flight or self._unwritten
        return self.exhausted and not left

    def become(self, status: str) -> None:
        self.batch = replace(self.batch, status=status)

    # ---------------------------------------------------------------- sending

    async def send(self, sender: Sender, caller: Caller) -> None:
        """Sends the next line."""
        line = self._ready.popleft()
        self.in_flight[line.n] = (line, None)
        id = f"{self.batch.id}-{line.n}"
        try:
            call = await sender.send(
                self.batch.endpoint, line.body, caller, id, lambda a: self._answered(line, a)
            )
        except RequestError as error:
            answer = Answer(error.status, "", failures.body(error), error.retry_after_s)
            self._answered(line, answer)
            return
        if line.n in self.in_flight:
            self.in_flight[line.n] = (line, call)
        else:  # It has ended already, or was given up while it was on its way.
            sender.abandon([call])

    def _answered(self, line: Line, answer: Answer) -> None:
        if self.in_flight.pop(line.n, None) is None or self.closed:
            return
        if answer.status in (429, 503) and not self._was_let_down(line, answer):
            self._ready.appendleft(line)
            pause_s = min(answer.retry_after_s or 1.0, LONGEST_PAUSE_S)
            self.not_before_s = max(self.not_before_s, time.monotonic() + pause_s)
            return
        self._let_down.pop(line.n, None)
        result = lines.answered(
            self.batch.id, line.n, line.custom_id, answer.status, answer.request_id, answer.body
        )
        self._keep(line.n, result, is_error=answer.status != 200)

    def _was_let_down(self, line: Line, answer: Answer) -> bool:
        """So often that it is the line's fault."""
        error = msgspec.json.decode(answer.body).get("error", {})
        if error.get("code") in LET_DOWN:
            self._let_down[line.n] = self._let_down.get(line.n, 0) + 1
        return self._let_down.get(line.n, 0) >= MAX_LET_DOWN

    # ---------------------------------------------------------------- results

    def give_up(self, sender: Sender, code: str, message: str) -> None:
        """What is not done will not be: lines under way are cancelled, and those at hand have that
        as their result."""
        held = [(line.n, line.custom_id) for line in self._ready]
        self._ready.clear()
        flying = list(self.in_flight.values())
        self.in_flight.clear()
        sender.abandon([call for _, call in flying if call is not None])
        held += [(line.n, line.custom_id) for line, _ in flying]
        while self._raw and self._may_go_on:
            raw = self._raw.popleft()
            held.append((raw.n, lines.name_of(raw.data)))
        for n, name in sorted(held):
            result = lines.failed(self.batch.id, n, name or None, code, message)
            self._keep(n, result, is_error=True)

    def _fail(self, broken: Broken) -> None:
        error = broken.error
        result = lines.failed(
            self.batch.id, broken.n, broken.custom_id, error.code or "invalid", str(error)
        )
        self._keep(broken.n, result, is_error=True)

    def _keep(self, n: int, result: bytes, *, is_error: bool) -> None:
        unwritten = self._unwritten
        (unwritten.errors if is_error else unwritten.outputs).append(result)
        unwritten.done.append(n)
        self._news()

    def take(self) -> Written:
        """Results to be written now; `wrote` when they are, `take_back` where they could not be."""
        taken, self._unwritten = self._unwritten, Written()
        return taken

    def take_back(self, written: Written) -> None:
        later, self._unwritten = self._unwritten, written
        written.outputs += later.outputs
        written.errors += later.errors
        written.done += later.done

    def wrote(self, written: Written) -> None:
        for n in written.done:
            self.done.add(n)

    def checkpoint(self) -> Checkpoint:
        """Of what has been written."""
        done, results = self.done, self.results
        return Checkpoint(
            done.low,
            done.low_offset,
            tuple(sorted(done.ahead)),
            results.output_bytes,
            results.error_bytes,
            results.completed,
            results.failed,
        )

    def close(self) -> None:
        self.closed = True
        self.reader.close()
