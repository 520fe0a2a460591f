"""How long those wait who are queued already, and how long they may."""

from __future__ import annotations

from itertools import accumulate

from fairlead.model import HostView, PlacedView


def waits_s(host: HostView, depth: int) -> list[tuple[PlacedView, float]]:
    """The last `depth` of a queue that is not empty, each with the time until its first token.

    What is predicted is for one that comes now, behind all others, itself among them. Of what is
    queued only what was sent before it is ahead."""
    queue = list(host.queue)
    through = list(accumulate(placed.context_tokens for placed in queue))
    last = queue[-depth:]
    behind_s = [
        max(host.predicted_ttft_s(one.request) - host.added_s(one.request), 0.0) for one in last
    ]
    s_per_token = max(behind_s) / through[-1]
    # An instance that takes urgent ones first has told a shorter time for them.
    ahead_s = [s_per_token * tokens for tokens in through[-len(last) :]]
    return list(zip(last, map(min, behind_s, ahead_s), strict=True))


def left_s(placed: PlacedView, host: HostView, now: float) -> float:
    """Time until its first token is due; infinite where none is promised, or its client has it."""
    request, objective = placed.request, placed.request.objective
    if placed.first_token_s is not None:
        return float("inf")
    if objective.ttft_s is not None:
        return request.arrival_s + objective.ttft_s - now
    if objective.deadline_s is not None:
        rest_s = host.predicted_e2e_s(request) - host.predicted_ttft_s(request)
        return request.arrival_s + objective.deadline_s - rest_s - now
    return float("inf")
