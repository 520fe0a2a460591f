"""Who can take a request from another instance, and which requests can go."""

from __future__ import annotations

from fairlead.model import HostView, PlacedView, Role
from fairlead.policies.freeness import blocks_of


def begins(host: HostView) -> bool:
    """Whether a request that has not begun can be sent there."""
    return not host.draining and host.role is not Role.DECODE


def decodes(host: HostView) -> bool:
    """Whether a sequence that decodes can be handed off to there."""
    return not host.draining and host.role is not Role.PREFILL


def free_seats(host: HostView) -> int:
    """Sequences that it can take beside all that are promised to it."""
    return host.max_sequences - host.running - host.waiting


def fits(host: HostView, placed: PlacedView) -> bool:
    """Whether there is a seat and memory for it, beside all that is promised there."""
    # One block more than it fills: its next token may need it.
    return free_seats(host) > 0 and host.available_blocks > blocks_of(placed.context_tokens, host)


def settled(host: HostView) -> list[PlacedView]:
    """Its sequences that do not move already."""
    return [placed for placed in host.decoding if not placed.is_moving]


def still_queued(host: HostView) -> list[PlacedView]:
    """Its waiting requests that do not move already."""
    return [placed for placed in host.queue if not placed.is_moving]
