"""An instance that can stall, run slow, lose its gateway, and die."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fairlead.instance import Instance
from fairlead.model import Cancel, Dispatch, Event, Reported, RequestId, Step
from fairlead.simulate.heap import STEP, Heap
from fairlead.simulate.node import Node
from fairlead.workload.percentiles import Histogram


class FaultyNode(Node):
    """Tells every token, so that what it made before a fault is known when the fault comes."""

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
        super().__init__(instance, heap, lengths, tell, gaps, single_steps=single_steps)
        self.alive = True
        self.linked = True
        """Without a gateway nobody waits for what is inside, and nothing is begun."""
        self._tell_all = True
        self._always_single = self._single_steps
        self._factor = 1.0
        """How many times as long as predicted the step under way takes; and those to come."""
        self._next_factor = 1.0
        self._stalled_until_s = 0.0
        self._extra_s = 0.0
        """By how much stalls lengthen the step under way."""

    @property
    def idles(self) -> bool:
        hindered = not self.alive or not self.linked or self._is_stalled
        return not hindered and super().idles

    @property
    def _is_stalled(self) -> bool:
        return self._heap.now < self._stalled_until_s

    # ---------------------------------------------------------------- what befalls it

    def stall(self, for_s: float) -> None:
        """The iteration under way, or whatever would come next, takes so much longer."""
        until_s = self._heap.now + for_s
        longer_s = until_s - max(self._heap.now, self._stalled_until_s)
        if longer_s <= 0:
            return
        self._stalled_until_s = until_s
        if self._step is None:
            self._heap.at(until_s, STEP, self._wake, None)
        else:
            self._finish_iteration()
            self._extra_s += longer_s
            self._plan_end(self._step)

    def slow_down(self, factor: float) -> None:
        """From the next iteration on."""
        self._next_factor = factor
        if self._step is not None:
            self._finish_iteration()

    def lose_gateway(self) -> None:
        self.linked = False
        if self._step is not None:
            self._finish_iteration()

    def welcome(self) -> None:
        """What is still inside from before belongs to nobody: the fleet has sent it elsewhere."""
        self.linked = True
        instance, now = self.instance, self._heap.now
        for id, attempt in list(instance.attempts.items()):
            instance.abort(id, now, attempt)
        self._tell([Reported(instance.report(now, whole_cache=True))])
        self._wake(None)

    def die(self) -> None:
        self.alive = False
        self._step = None
        self._planned_end += 1

    def speak(self) -> None:
        """Tells what was made up to now. Where runs are not cut short, tokens go out with the end
        of a run; to whoever looks at this moment they had been sent one by one."""
        if self.alive and self.linked:
            super().speak()

    # ---------------------------------------------------------------- steps

    def receive(self, action: Dispatch | Cancel) -> None:
        if self.alive and self.linked:
            # Whoever leaves in the middle of a run leaves as much as it had taken by then.
            self.keep_up()
            super().receive(action)

    def _wake(self, _: None) -> None:
        if self.alive and self._step is None:
            self._begin()

    def _begin(self) -> None:
        if not self.linked or self._is_stalled:
            self._step = None
            return
        self._factor, self._extra_s = self._next_factor, 0.0
        # Each step counts in what the next report says of its pace.
        off_pace = self._factor != 1.0 or self.instance.planner.slowdown != 1.0
        self._single_steps = self._always_single or off_pace
        super()._begin()

    def done(self) -> int:
        """Iterations of the step under way that are over."""
        if self._step is None or self._n == 1:
            return 0
        if self._extra_s:
            return self._n - 1  # A stall befell the last of them.
        elapsed_s = (self._heap.now - self._started_s) / self._factor
        return min(self._step.iterations_within(elapsed_s), self._n - 1)

    def _finish_iteration(self) -> None:
        """The iteration under way is the last of its run."""
        assert self._step is not None
        n = self.done() + 1
        if n < self._n:
            self._n = n
            self._plan_end(self._step)

    def _interrupt(self) -> None:
        self._finish_iteration()

    def _plan_end(self, step: Step) -> None:
        self._planned_end += 1
        ends_s = self._started_s + self._factor * step.seconds(self._n) + self._extra_s
        self._heap.at(ends_s, STEP, self._end, self._planned_end)
