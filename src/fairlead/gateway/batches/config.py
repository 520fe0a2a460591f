"""What can be set about files and batches: the `[batches]` table of a fleet file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchesConfig:
    folder: str = ""
    """Where files are: uploaded ones, and the results of batches. Gateways of one database share
    it."""
    database: str = ""
    """A file (SQLite), or postgresql://user@host/name. Empty: that of `[tenants]`, or a file in the
    folder."""
    service_tier: str = "batch"
    """The objective class of lines: one that promises no time."""
    max_file_mib: float = 512.0
    """Largest file that may be uploaded."""
    max_tenant_gib: float = 16.0
    """What one tenant's files may come to; an upload that would go beyond is refused."""
    max_files: int = 10_000
    """Files that one tenant may have."""
    max_lines: int = 1_000_000
    """Of one batch."""
    max_open: int = 100
    """Batches of one tenant that have not ended."""
    max_in_flight: int = 1024
    """Lines that this gateway has under way at most, whatever the fleet could take."""
    max_running: int = 8
    """Batches that this gateway works on at a time; others wait, the oldest first."""

    def __post_init__(self) -> None:
        if not self.folder:
            raise ValueError("folder must be set: files and results have to be somewhere")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def max_file_bytes(self) -> int:
        return int(self.max_file_mib * 2**20)

    @property
    def max_tenant_bytes(self) -> int:
        return int(self.max_tenant_gib * 2**30)


_POSITIVE = (
    "max_file_mib",
    "max_tenant_gib",
    "max_files",
    "max_lines",
    "max_open",
    "max_in_flight",
    "max_running",
)
