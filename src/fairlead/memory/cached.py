"""Blocks that nobody uses and that can be found again, and which of them is evicted next.

Rule:  what was not used for `KEPT_S` goes first, longest unused first; after that whoever has most
       cached blocks loses the one that was unused longest.
Paper: Suter et al., "Design Considerations for Supporting TCP with Per-flow Queueing", 1998: a full
       buffer drops from the longest queue. Who floods it drops their own, and who has less than
       an equal share loses nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heapreplace

KEPT_S = 300.0
"""For so long after its last use a block counts for its owner. Clients are written for prompt
caches that promise as much (Anthropic 5 minutes, OpenAI 5 to 10); without an end, tenants who have
gone would hold the memory for ever, and those who work would share what is left."""

Queue = OrderedDict[int, float]
"""One owner's blocks and when each was let go, longest unused first. A plain dict would walk over
all that were evicted before to find the first."""


class Cached:
    """The cached blocks of a pool, by owner. Those of a single owner are a plain LRU list."""

    def __init__(self) -> None:
        self._queues: dict[bytes, Queue] = {}
        """One that has become empty may still be here."""
        self._now = 0.0
        self._turns: list[tuple[float, int, bytes, Queue]] = []
        """Heap of the owners, who loses a block next first. Empty where a queue may have changed
        since: so owners are counted when somebody comes or goes, and not for each new block."""

    def of(self, owner: bytes) -> Queue:
        """The owner's blocks, to be changed now."""
        self._turns.clear()
        queue = self._queues.get(owner)
        if queue is None:
            queue = self._queues[owner] = OrderedDict()
        return queue

    def let_go_by(self, owner: bytes, now: float) -> Queue:
        """The same, for blocks to be added at its end with this time, by which all are aged from
        now on."""
        self._now = now
        return self.of(owner)

    def evict(self, n: int) -> list[int]:
        """The next `n` blocks to be evicted, in that order; they are cached no more."""
        if len(self._queues) == 1:
            (queue,) = self._queues.values()
            return [queue.popitem(last=False)[0] for _ in range(n)]
        if not self._turns:
            self._count()
        turns = self._turns
        blocks = []
        for _ in range(n):
            _, _, owner, queue = turns[0]
            blocks.append(queue.popitem(last=False)[0])
            if queue:
                heapreplace(turns, self._turn(owner, queue))
            else:
                heappop(turns)
        return blocks

    def blocks(self) -> list[int]:
        """All of them, to be checked."""
        return [block for queue in self._queues.values() for block in queue]

    def _count(self) -> None:
        self._queues = {owner: queue for owner, queue in self._queues.items() if queue}
        self._turns = [self._turn(owner, queue) for owner, queue in self._queues.items()]
        heapify(self._turns)

    def _turn(self, owner: bytes, queue: Queue) -> tuple[float, int, bytes, Queue]:
        """Whose is least loses a block next."""
        unused_since_s = next(iter(queue.values()))
        return min(unused_since_s, self._now - KEPT_S), -len(queue), owner, queue
