"""What a request was promised, and whether the promise was kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Objective:
    """The SLO of a request. A field that is None promises nothing; all None is batch work."""

    name: str = "batch"
    """The objective class: what `service_tier` asks for, and what figures are grouped by."""
    ttft_s: float | None = None
    """Seconds from arrival at the gateway to the first token leaving it."""
    tpot_s: float | None = None
    """Mean seconds per output token after the first."""
    deadline_s: float | None = None
    """Seconds from arrival to the last token."""

    def __post_init__(self) -> None:
        for field in ("ttft_s", "tpot_s", "deadline_s"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise ValueError(f"objective {self.name!r}: {field} must be positive, got {value}")

    @property
    def timed(self) -> bool:
        """True where any time was promised."""
        return not (self.ttft_s is None and self.tpot_s is None and self.deadline_s is None)

    @property
    def patient(self) -> bool:
        """True where only the last token is promised: others may go first for a while."""
        return self.deadline_s is not None and self.ttft_s is None

    def met(self, ttft_s: float, tpot_s: float | None, e2e_s: float) -> bool:
        """Whether a finished request kept its objective; `tpot_s` is None for a single token."""
        return (
            (self.ttft_s is None or ttft_s <= self.ttft_s)
            and (self.tpot_s is None or tpot_s is None or tpot_s <= self.tpot_s)
            and (self.deadline_s is None or e2e_s <= self.deadline_s)
        )

    def first_due_s(self, output_tokens: float, tpot_s: float) -> float | None:
        """Seconds after arrival by which the first of `output_tokens` must come, at `tpot_s` for
        each of the others; None where nothing is promised about it."""
        if self.ttft_s is not None:
            return self.ttft_s
        if self.deadline_s is not None:
            return self.deadline_s - output_tokens * tpot_s
        return None


BATCH = Objective()
"""No time objective: fills what is left."""
