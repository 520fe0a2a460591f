"""Hand-offs as the fleet sees them: who moves where, and from which token on the target counts.

The source's attempt counts until the source has said that it is done, or until the target has made
the very next token. What the target says too early waits for the source's last tokens, which were
made before. So nothing is lost, nothing comes twice, and whichever end dies, the fleet knows all
that its client has.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.fleet.shadow import Shadow
from fairlead.fleet.tracked import Moving, Tracked
from fairlead.model import (
    Action,
    Cancel,
    CancelWhy,
    Event,
    Handoff,
    HandoffWhy,
    InstanceId,
)


class Handoffs:
    """Begins, ends and gives up hand-offs; keeps the shadows of both ends true."""

    def __init__(self, instances: Mapping[InstanceId, Shadow]) -> None:
        self._instances = instances
        self.n_done = 0
        self.n_failed = 0

    def begin(self, tracked: Tracked, target: Shadow, why: HandoffWhy, now: float) -> Handoff:
        assert tracked.instance is not None, f"{tracked!r} is nowhere"
        assert tracked.moving is None, f"{tracked!r} moves already"
        tracked.issued += 1
        tracked.moving = Moving(target.id, tracked.issued, why, now)
        target.expect(tracked.request.id, tracked.issued, tracked.context_tokens)
        self._instances[tracked.instance].n_leaving += 1
        return Handoff(
            tracked.instance, target.id, tracked.request.id, tracked.attempt, tracked.issued, why
        )

    def switch(self, tracked: Tracked, now: float) -> Moving:
        """From now on the target's attempt counts."""
        moving = self._end(tracked)
        id, context = tracked.request.id, tracked.context_tokens
        assert tracked.instance is not None
        self._instances[tracked.instance].release(id, context)
        self._instances[moving.target].arrived(id, context)
        tracked.instance, tracked.attempt = moving.target, moving.attempt
        tracked.dispatched_s = now
        self.n_done += 1
        return moving

    def abandon(self, tracked: Tracked) -> list[Action]:
        """The request stays where it is, or is gone: whatever the target has of it is void."""
        if tracked.moving is None:
            return []
        moving = self._end(tracked)
        self.n_failed += 1
        target = self._instances.get(moving.target)
        if target is None:
            return []
        target.expect_no_more(tracked.request.id)
        id = tracked.request.id
        return [Cancel(moving.target, id, moving.attempt, CancelWhy.SUPERSEDED)]

    def _end(self, tracked: Tracked) -> Moving:
        moving, tracked.moving = tracked.moving, None
        assert moving is not None, f"{tracked!r} does not move"
        source = self._instances.get(tracked.instance) if tracked.instance else None
        if source is not None:
            source.n_leaving -= 1
        return moving

    def comes_next(
        self, tracked: Tracked, instance: InstanceId, attempt: int, event: Event
    ) -> bool:
        """Whether an event is the target's, and nothing that the source made is still to come:
        then the target has the sequence. One that came too early is kept for later."""
        moving = tracked.moving
        if moving is None or (moving.target, moving.attempt) != (instance, attempt):
            return False
        if moving.ahead or moving.later:
            moving.later.append(event)
            return False
        return True


def is_expected(tracked: Tracked | None, instance: InstanceId, attempt: int) -> bool:
    """Whether this attempt is on its way to this instance."""
    if tracked is None or tracked.moving is None:
        return False
    return (tracked.moving.target, tracked.moving.attempt) == (instance, attempt)
