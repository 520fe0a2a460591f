"""An instance in virtual time: runs of decode iterations are one event, not one each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heappop, heappush, heapreplace
from typing import Any

from fairlead.instance import Instance, Sequence
from fairlead.model import (
    Cancel,
    Dispatch,
    Event,
    FinishReason,
    Refused,
    Reported,
    RequestId,
    Step,
    StepResult,
)
from fairlead.simulate.heap import STEP, Heap
from fairlead.workload.percentiles import Histogram

NOBODY: Mapping[RequestId, FinishReason] = {}


class Node:
    """Drives one `Instance`. It alone knows how long answers really are."""

    def __init__(
        self,
        instance: Instance,
        heap: Heap,
        lengths: Mapping[RequestId, int],
        tell: Callable[[list[Event]], None],
        gaps: Histogram,
        *,
        single_steps: bool = False,
    ) -> None:
        """`lengths` are the true output lengths, `tell` takes one frame for the fleet, `gaps`
        counts the times between tokens. With `single_steps` every iteration is an event, and every
        token is told at once: slow, and the reference for what runs of iterations must equal."""
        self.instance = instance
        self._heap = heap
        self._lengths = lengths
        self._tell = tell
        self._gaps = gaps
        self._single_steps = single_steps
        self._tell_all = single_steps
        """Whether every commit tells all tokens, not only first and last ones."""
        self._decoding = instance.planner.decoding
        self._step: Step | None = None
        self._started_s = 0.0
        self._planned_end = 0
        """Counts the ends that were planned; only the latest counts."""
        self._n = 1
        """Iterations the step under way will have when it ends."""
        self._ends: list[tuple[int, int, Sequence]] = []
        """Heap: for everybody who runs an iteration before which it does not say its last token.
        Some sit out iterations; then their time is set anew when it has come."""
        self._timed: dict[Sequence, None] = {}
        """Those in the heap."""
        self.transfers: dict[RequestId, Any] = {}
        """Hand-offs from here that are under way."""
        self._between: list[Callable[[], None]] = []
        """To be called as soon as no step is under way."""
        self._pauses = False
        """They are called now; the next step begins after them."""

    @property
    def idles(self) -> bool:
        """True where it has work, and yet nothing is under way."""
        planner = self.instance.planner
        held_up = planner.frozen or planner.incoming  # By a hand-off, until that is over.
        return self._step is None and bool(self.instance.sequences) and not held_up

    def between_steps(self, call: Callable[[], None]) -> None:
        """At the end of the iteration under way, or now."""
        if self._step is None:
            call()
            return
        self._between.append(call)
        if self._n > 1:
            self._interrupt()

    def tell_all(self) -> None:
        """Every token that was made."""
        rest = self.instance.tell()
        if rest is not None:
            self._tell([rest])

    def speak(self) -> None:
        """Tells what was made up to now, the step under way included."""
        rest = self.instance.tell(self.done())
        if rest is not None:
            self._tell([rest])

    def tell(self, frame: list[Event]) -> None:
        self._tell(frame)

    def go_on(self) -> None:
        """Something changed from outside."""
        if self._pauses:
            return
        if self._step is None:
            self._begin()
        elif self._n > 1:
            self._interrupt()

    def receive(self, action: Dispatch | Cancel) -> None:
        """A message of the fleet."""
        now, instance = self._heap.now, self.instance
        if isinstance(action, Dispatch):
            request = action.request
            why = instance.submit(request, now, attempt=action.attempt, produced=action.produced)
            if why is not None:
                self._tell([Refused(instance.spec.id, request.id, action.attempt, why)])
        else:
            instance.abort(action.request, now, action.attempt)
        if self._step is None:
            self._begin()
        elif self._n > 1 and instance.would_admit:
            self._interrupt()

    def keep_up(self) -> None:
        """Its instance holds what a run of iterations has taken by now, for whoever looks."""
        self.instance.keep_up(self.done())

    def report(self, *, whole_cache: bool = False) -> None:
        now, ahead = self._heap.now, self.done()
        self._tell([Reported(self.instance.report(now, whole_cache=whole_cache, ahead=ahead))])

    def done(self) -> int:
        """Iterations of the step under way that are over, though not committed."""
        if self._step is None or self._n == 1:
            return 0
        done = self._step.iterations_within(self._heap.now - self._started_s)
        return min(done, self._n - 1)

    def _begin(self) -> None:
        now = self._heap.now
        step = self._step = self.instance.plan(now)
        if step is None:
            return
        self._started_s = now
        if step.repeat == 1 or self._single_steps:
            self._n = 1
        else:
            self._n = min(step.repeat, self._iterations_to_an_end())
        self._plan_end(step)

    def _iterations_to_an_end(self) -> int:
        """Iterations until the first sequence reaches its true length, where everybody who runs
        decodes."""
        ends, done = self._ends, self._decoding.iterations
        while True:
            at, queued, sequence = ends[0]
            if sequence.decoding is None:
                self._forget()  # It waits, or is gone; if it runs again it is timed again.
                continue
            left = self._left(sequence)
            if done + left <= at:
                return left
            heapreplace(ends, (done + left, queued, sequence))

    def _left(self, sequence: Sequence) -> int:
        """Tokens it has still to say. One whose request has ended elsewhere, and which nobody has
        stopped yet, says as many as it may."""
        length = self._lengths.get(sequence.id, sequence.max_tokens)
        return max(length - sequence.n_produced, 1)

    def _forget(self) -> None:
        del self._timed[heappop(self._ends)[2]]

    def _plan_end(self, step: Step) -> None:
        self._planned_end += 1
        ends_s = self._started_s + step.seconds(self._n)
        self._heap.at(ends_s, STEP, self._end, self._planned_end)

    def _interrupt(self) -> None:
        """Something happened: the iteration under way is the last before it is looked at."""
        step = self._step
        assert step is not None
        done = step.iterations_within(self._heap.now - self._started_s)
        if done + 1 < self._n:
            self._n = done + 1
            self._plan_end(step)

    def _end(self, planned: int) -> None:
        if planned != self._planned_end:
            return
        step, n = self._step, self._n
        assert step is not None
        self._count_gaps(step, n)
        result = StepResult(None, n, self._stopped(step, n))
        frame: list[Event] = [*self.instance.commit(step, result, self._heap.now)]
        if self._tell_all and (rest := self.instance.tell()) is not None:
            frame.append(rest)
        if frame:
            self._tell(frame)
        if self._between:
            self._pause()
        self._begin()

    def _pause(self) -> None:
        """No step is under way: what waited for this is done."""
        self._step, self._pauses = None, True
        calls, self._between = self._between, []
        for call in calls:
            call()
        self._pauses = False

    def _stopped(self, step: Step, n: int) -> Mapping[RequestId, FinishReason]:
        """Who says the last token in this step."""
        stopped: dict[RequestId, FinishReason] = {}
        first, ends, sequences = self._decoding.iterations, self._ends, self.instance.sequences
        for row in step.apart:
            sequence = sequences.get(row.request)
            if sequence is None:
                continue
            left = self._left(sequence)
            if row.samples and left <= 1:
                stopped[row.request] = FinishReason.STOP
            elif sequence not in self._timed:
                self._timed[sequence] = None
                heappush(ends, (first + left, sequence.queued, sequence))
        while ends and ends[0][0] <= first + n:
            _, queued, sequence = ends[0]
            if not sequence.admitted:
                self._forget()
                continue
            left = self._left(sequence)
            if sequence.decoding is not None and left <= n:
                stopped[sequence.id] = FinishReason.STOP
                self._forget()
            else:
                heapreplace(ends, (first + max(left, n + 1), queued, sequence))
        return stopped or NOBODY

    def _count_gaps(self, step: Step, n: int) -> None:
        """The times between tokens. Iterations whose durations differ by less than the histogram
        tells apart are counted together."""
        if members := len(self._decoding.members):
            pieces = min(n, 1 + int(step.growth_s * n / (0.005 * step.first_s)))
            for i in range(pieces):
                first, end = i * n // pieces, (i + 1) * n // pieces
                middle_s = step.first_s + step.growth_s * (first + end - 1) / 2
                self._gaps.add(middle_s, members * (end - first))
        for row in step.apart:
            sequence = self.instance.sequences.get(row.request)
            if row.samples and sequence is not None and sequence.last_token_s is not None:
                self._gaps.add(self._heap.now - sequence.last_token_s)
