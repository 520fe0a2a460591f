"""Freeness: how far an instance is from running out of memory, in one number.

Paper: "Llumnix: Dynamic Scheduling for Large Language Model Serving".
Rule:  freeness = (memory - virtual usage) / sequences. A running sequence uses what it holds, the
       head of the queue what it will need, others that wait nothing; sequences of high priority
       reserve, all together, what lies above a target load; an instance that drains uses all
       there is and more.

Virtual usage makes different wishes (balance, room for the head of the queue, quiet neighbours for
urgent work, draining) look like load, so that one comparison serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.model import HostView

BLOCK_TOKENS = 16
"""Freeness counts blocks of this size, whatever an instance's own: the published thresholds do."""


@dataclass(frozen=True, slots=True)
class HighPriority:
    """Which requests get headroom, and how much."""

    priority: int = -1
    """Requests of this priority or a lower number: lower runs earlier, 0 is normal."""
    load_fraction: float = 0.12
    """Of an instance's memory, what it should hold while such a request runs there. The paper:
    1,600 tokens on GPUs with room for about 13,600."""


HIGH_PRIORITY = HighPriority()


def blocks_of(tokens: int, host: HostView) -> int:
    """Blocks that so many tokens fill on this instance."""
    return -(-tokens // host.block_tokens)


def free_blocks(host: HostView) -> int:
    """Blocks that nobody holds now; what is promised to the queue counts as free."""
    queued = blocks_of(host.queued_tokens, host)
    if host.available_blocks > 0:
        return min(host.available_blocks + queued, host.total_blocks)
    # More is promised than there is. How much more, only the contexts can tell.
    unheld = host.total_blocks - blocks_of(host.context_tokens, host)
    return min(queued, max(unheld, 0))


def head_blocks(host: HostView) -> int:
    """Blocks that the head of the queue still needs; 0 where nobody waits."""
    queue = host.queue
    if not queue:
        return 0
    # What is cached, or computed already, is not queued.
    return blocks_of(min(queue[0].context_tokens, host.queued_tokens), host)


def virtual_usage(host: HostView, high: HighPriority = HIGH_PRIORITY) -> float:
    """Blocks of the instance's own size; infinite while it drains."""
    if host.draining:
        return float("inf")
    used = host.total_blocks - free_blocks(host) + head_blocks(host)
    if any(placed.request.priority <= high.priority for placed in host.decoding):
        return used + (1.0 - high.load_fraction) * host.total_blocks
    return used


def freeness(host: HostView, high: HighPriority = HIGH_PRIORITY) -> float:
    """Blocks of 16 tokens for each sequence, that is, roughly, the decode steps to go, by 16.
    Negative where the head of the queue or an urgent sequence wants more than there is."""
    sequences = host.running + (1 if host.waiting else 0)
    left = (host.total_blocks - virtual_usage(host, high)) * host.block_tokens / BLOCK_TOKENS
    return left / max(sequences, 1)
