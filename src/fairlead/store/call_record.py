"""A call that has ended, as the ledger has it."""

from __future__ import annotations

from dataclasses import dataclass

FINISHED, CANCELLED, FAILED, LOST = "finished", "cancelled", "failed", "lost"
"""How a call ends: whole, left by its client, let down with a part sent, or by the death of its
gateway. One that failed before its first token is nobody's use, and no record."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call that has ended."""

    id: str
    tenant: str
    key_id: str
    model: str
    tier: str
    outcome: str
    """One of the above."""
    ended_s: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    """Tokens that went out to its client."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens
