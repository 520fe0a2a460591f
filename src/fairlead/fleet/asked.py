"""What is known of one request at one instance, for as long as nothing changes there."""

from __future__ import annotations

from fairlead.model import RequestId


class Asked:
    """Found out once: admission, routing and the dispatch itself ask about a request within one
    decision."""

    __slots__ = ("as_of_s", "id", "own_s", "ttft_s", "uncached")

    def __init__(self, id: RequestId, as_of_s: float, uncached: int, own_s: float) -> None:
        self.id = id
        self.as_of_s = as_of_s
        """When that was."""
        self.uncached = uncached
        """Tokens of its prompt that are to be computed."""
        self.own_s = own_s
        """How long that takes, beside those who decode."""
        self.ttft_s: float | None = None
        """From now to its first token; None until somebody wants to know."""
