"""A request under way, as its client sees it."""

from __future__ import annotations

from fairlead.model import Request
from fairlead.workload.trace import TraceRow


class Life:
    """What a record will tell, while it is still growing."""

    __slots__ = (
        "attempts",
        "first_token_s",
        "instance",
        "last_token_s",
        "output_tokens",
        "predicted_e2e_s",
        "predicted_ttft_s",
        "request",
        "row",
    )

    def __init__(self, request: Request, row: TraceRow) -> None:
        self.request = request
        self.row = row
        self.first_token_s: float | None = None
        self.last_token_s: float | None = None
        self.output_tokens = 0
        self.predicted_ttft_s: float | None = None
        self.predicted_e2e_s: float | None = None
        self.attempts = 0
        self.instance = ""
        """Where it was sent last."""
