"""Files and batches, as the database has them. Without SQLAlchemy: pages and tests name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VALIDATING, RUNNING, FINALIZING = "validating", "in_progress", "finalizing"
CANCELLING = "cancelling"
COMPLETED, FAILED, EXPIRED, CANCELLED = "completed", "failed", "expired", "cancelled"
OPEN = (VALIDATING, RUNNING, FINALIZING, CANCELLING)
"""A batch of these has something left to be done."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is whole."""

    id: str
    tenant: str
    purpose: str
    filename: str
    bytes: int
    created_s: float


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Up to here a batch is known to be done: what its result files hold beyond is read again by
    whoever goes on with it."""

    low: int = 0
    """The first line that is not done; lines count from zero."""
    low_offset: int = 0
    """Where in the input it begins."""
    ahead: tuple[int, ...] = ()
    """Lines after it that are done."""
    output_bytes: int = 0
    """Of the output file, which hold these lines."""
    error_bytes: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch."""

    id: str
    tenant: str
    key_id: str
    endpoint: str
    input_file: str
    window: str
    """As its client said it: 24h."""
    created_s: float
    expires_s: float
    metadata: Mapping[str, str] = field(default_factory=dict)
    status: str = VALIDATING
    times: Mapping[str, float] = field(default_factory=dict)
    errors: tuple[Mapping[str, Any], ...] = ()
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file: str | None = None
    error_file: str | None = None
    checkpoint: Checkpoint = Checkpoint()
    owner: str = ""
    owner_host: str = ""
    lease_s: float = 0.0

    @property
    def results(self) -> tuple[str, str]:
        """The ids of its output file and its error file, whether or not they exist."""
        stem = self.id.removeprefix("batch_")
        return f"file-{stem}-output", f"file-{stem}-error"
