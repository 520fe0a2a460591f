"""Files and batches in OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairlead.store.batch import Batch, StoredFile

_TIMES = (
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)


def file(stored: StoredFile) -> dict[str, Any]:
    return {
        "id": stored.id,
        "object": "file",
        "bytes": stored.bytes,
        "created_at": int(stored.created_s),
        "expires_at": None,
        "filename": stored.filename,
        "purpose": stored.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch(row: Batch) -> dict[str, Any]:
    times = {f"{name}_at": _whole(row.times.get(name)) for name in _TIMES}
    return {
        "id": row.id,
        "object": "batch",
        "endpoint": row.endpoint,
        "errors": {"object": "list", "data": list(row.errors)} if row.errors else None,
        "input_file_id": row.input_file,
        "completion_window": row.window,
        "status": row.status,
        "output_file_id": row.output_file,
        "error_file_id": row.error_file,
        "created_at": int(row.created_s),
        **times,
        "expires_at": int(row.expires_s),
        "request_counts": {
            "total": row.total,
            "completed": row.completed,
            "failed": row.failed,
        },
        "metadata": dict(row.metadata) or None,
    }


def page(rows: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    """`rows` has one more than `limit` where there are more."""
    shown = list(rows[:limit])
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(rows) > limit,
    }


def _whole(time_s: float | None) -> int | None:
    return None if time_s is None else int(time_s)
