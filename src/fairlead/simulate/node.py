"""An instance in virtual time: runs of decode iterations are one event, not one each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fairlead.instance import Instance
from fairlead.model import (
    Action,
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
from fairlead.simulate.heap import Heap

MESSAGE, STEP, REPORT, ARRIVAL, TICK = range(5)
"""Ranks of events that fall on one instant."""


class Node:
    """Drives one `Instance`. It alone knows how long answers really are."""

    def __init__(
        self,
        instance: Instance,
        heap: Heap,
        lengths: Mapping[RequestId, int],
        tell: Callable[[Event], None],
    ) -> None:
        """`lengths` are the true output lengths; `tell` takes what the fleet is to hear, now."""
        self.instance = instance
        self._heap = heap
        self._lengths = lengths
        self._tell = tell
        self._step: Step | None = None
        self._started_s = 0.0
        self._planned_end = 0
        """Counts the ends that were planned; only the latest counts."""
        self._n = 1
        """Iterations the step under way will have when it ends."""

    def receive(self, action: Action) -> None:
        """A message of the fleet."""
        now = self._heap.now
        if isinstance(action, Dispatch):
            why = self.instance.submit(
                action.request, now, attempt=action.attempt, produced=action.produced
            )
            if why is not None:
                id = self.instance.spec.id
                self._tell(Refused(id, action.request.id, action.attempt, why))
        elif isinstance(action, Cancel):
            self.instance.abort(action.request, now, action.attempt)
        if self._step is None:
            self._begin()
        else:
            self._interrupt()

    def report(self) -> None:
        self._tell(Reported(self.instance.report(self._heap.now)))

    def _begin(self) -> None:
        step = self.instance.plan(self._heap.now)
        self._step = step
        if step is None:
            return
        self._started_s = self._heap.now
        self._n = step.repeat if step.repeat == 1 else self._until_a_finish(step)
        self._plan_end()

    def _until_a_finish(self, step: Step) -> int:
        """Iterations until the first sequence reaches its true length."""
        sequences = self.instance.sequences
        return min(
            step.repeat,
            *(self._lengths[row.request] - sequences[row.request].n_produced for row in step.rows),
        )

    def _plan_end(self) -> None:
        assert self._step is not None
        shape = self.instance.shape(self._step)
        model = self.instance.latency
        seconds = model.step_s(shape) if self._n == 1 else model.run_s(shape, self._n)
        self._planned_end += 1
        mine = self._planned_end
        self._heap.at(self._started_s + seconds, STEP, lambda: self._end(mine))

    def _interrupt(self) -> None:
        """Something happened: the iteration under way is the last before it is looked at."""
        assert self._step is not None
        if self._n == 1:
            return
        shape = self.instance.shape(self._step)
        done = self.instance.latency.iterations_within(shape, self._heap.now - self._started_s)
        if done + 1 < self._n:
            self._n = done + 1
            self._plan_end()

    def _end(self, planned: int) -> None:
        if planned != self._planned_end or self._step is None:
            return
        step, n = self._step, self._n
        tokens: dict[RequestId, bytes] = {}
        stopped: dict[RequestId, FinishReason] = {}
        for row in step.rows:
            sequence = self.instance.sequences.get(row.request)
            if row.samples and sequence is not None:
                tokens[row.request] = bytes(n)
                if sequence.n_produced + n >= self._lengths[row.request]:
                    stopped[row.request] = FinishReason.STOP
        for event in self.instance.commit(step, StepResult(tokens, n, stopped), self._heap.now):
            self._tell(event)
        self._begin()
