"""A beam search for the few hand-offs that make a fleet's loads most even.

It counts evaluations where others look at a clock: the answer depends on nothing but its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fairlead.model import HostView, InstanceId, PlacedView
from fairlead.policies.freeness import blocks_of, free_blocks
from fairlead.policies.rescheduling.room import decodes, free_seats, settled

PAIRS = 3
"""So many of the most loaded instances give, and so many of the least loaded take: others hardly
ever are in the best plan."""

Price = Callable[[HostView, float, int], float]
"""What it costs that an instance holds so many blocks in so many sequences."""
MoveCost = Callable[[HostView, PlacedView], float]
Allowed = Callable[[PlacedView, InstanceId, InstanceId], bool]


class Step(NamedTuple):
    """One hand-off of a plan; instances by their place in the list."""

    source: int
    target: int
    placed: PlacedView


@dataclass(frozen=True, slots=True)
class Plan:
    """Hand-offs, and what the fleet would be like after them."""

    cost: float
    blocks: tuple[float, ...]
    """Held by each instance."""
    sequences: tuple[int, ...]
    added: tuple[int, ...]
    """Blocks that came to each; what left is not counted as free before it has left."""
    steps: tuple[Step, ...] = ()
    moved: frozenset[str] = field(default_factory=frozenset)

    @property
    def key(self) -> tuple[float, tuple[str, ...]]:
        """Orders plans, the best first; of equal ones always the same."""
        return (self.cost, tuple(step.placed.request.id for step in self.steps))


class Search:
    """Finds a plan among those that the rules of its caller allow."""

    def __init__(
        self,
        hosts: Sequence[HostView],
        price: Price,
        move_cost: MoveCost,
        allowed: Allowed,
        slots: int,
    ) -> None:
        self._hosts = hosts
        self._price = price
        self._move_cost = move_cost
        self._allowed = allowed
        self._slots = slots
        self._left = 0
        """Evaluations that remain."""
        self._movable = [sorted(settled(host), key=_size) for host in hosts]

    def start(self) -> Plan:
        """No hand-off at all."""
        hosts = self._hosts
        blocks = tuple(float(host.total_blocks - free_blocks(host)) for host in hosts)
        sequences = tuple(host.running for host in hosts)
        cost = sum(map(self._price, hosts, blocks, sequences))
        return Plan(cost, blocks, sequences, (0,) * len(hosts))

    def best(self, moves: int, width: int, evaluations: int) -> Plan:
        """The best plan of at most so many moves, where each depth keeps the `width` best; a width
        of 1 is greedy. Looks at no more than `evaluations` hand-offs."""
        best = self.start()
        beam = [best]
        self._left = evaluations
        for depth in range(moves):
            share = self._left // ((moves - depth) * len(beam))
            found: dict[frozenset[tuple[str, int]], Plan] = {}
            for plan in beam:
                for child in self._children(plan, share):
                    names = frozenset((step.placed.request.id, step.target) for step in child.steps)
                    found.setdefault(names, child)
            if not found:
                break
            beam = sorted(found.values(), key=lambda plan: plan.key)[:width]
            best = min(best, beam[0], key=lambda plan: plan.cost)
        return best

    def _children(self, plan: Plan, share: int) -> Iterator[Plan]:
        """Plans with one more hand-off that pays for itself."""
        for step in self._steps(plan, share):
            if self._left <= 0:
                return
            self._left -= 1
            child = self._with(plan, step)
            if child.cost < plan.cost:
                yield child

    def _steps(self, plan: Plan, share: int) -> Iterator[Step]:
        """From the fullest to the emptiest, sequences spread evenly over their sizes: about
        `share` in all."""
        by_load = sorted(range(len(self._hosts)), key=lambda i: (self._load(plan, i), i))
        sources = [i for i in reversed(by_load) if self._movable[i]][:PAIRS]
        targets = [i for i in by_load if decodes(self._hosts[i])][:PAIRS]
        each = max(share // (PAIRS * PAIRS), 1)
        for source in sources:
            left = [one for one in self._movable[source] if one.request.id not in plan.moved]
            for placed in _spread(left, each):
                for target in targets:
                    step = Step(source, target, placed)
                    if self._possible(plan, step):
                        yield step

    def _load(self, plan: Plan, i: int) -> float:
        host = self._hosts[i]
        return float("inf") if host.draining else plan.blocks[i] / host.total_blocks

    def _possible(self, plan: Plan, step: Step) -> bool:
        source, target = self._hosts[step.source], self._hosts[step.target]
        if step.source == step.target:
            return False
        used = [0, 0]
        coming = 0
        for other in plan.steps:
            if (other.source, other.target) == (step.target, step.source):
                return False  # A pair that swaps would undo half of what it does.
            coming += other.target == step.target
            used[0] += step.source in other[:2]
            used[1] += step.target in other[:2]
        blocks = plan.added[step.target] + blocks_of(step.placed.context_tokens, target)
        return (
            source.n_moving + used[0] < self._slots
            and target.n_moving + used[1] < self._slots
            and free_seats(target) > coming
            and target.available_blocks > blocks
            and self._allowed(step.placed, source.id, target.id)
        )

    def _with(self, plan: Plan, step: Step) -> Plan:
        source, target = step.source, step.target
        tokens = step.placed.context_tokens
        blocks, sequences, added = list(plan.blocks), list(plan.sequences), list(plan.added)
        before = self._priced(plan.blocks, plan.sequences, step)
        came = blocks_of(tokens, self._hosts[target])
        blocks[source] = max(blocks[source] - blocks_of(tokens, self._hosts[source]), 0.0)
        blocks[target] += came
        sequences[source] -= 1
        sequences[target] += 1
        added[target] += came
        after = self._priced(blocks, sequences, step)
        return Plan(
            plan.cost + after - before + self._move_cost(self._hosts[source], step.placed),
            tuple(blocks),
            tuple(sequences),
            tuple(added),
            (*plan.steps, step),
            plan.moved | {step.placed.request.id},
        )

    def _priced(self, blocks: Sequence[float], sequences: Sequence[int], step: Step) -> float:
        return sum(
            self._price(self._hosts[i], blocks[i], sequences[i]) for i in (step.source, step.target)
        )


def _size(placed: PlacedView) -> tuple[int, str]:
    return (placed.context_tokens, placed.request.id)


def _spread(ordered: Sequence[PlacedView], n: int) -> Sequence[PlacedView]:
    """At most `n` of them, evenly over the order, both ends among them."""
    if len(ordered) <= n:
        return ordered
    if n == 1:
        return ordered[-1:]
    return [ordered[i * (len(ordered) - 1) // (n - 1)] for i in range(n)]
