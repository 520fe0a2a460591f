"""What clients are told when a request fails, in OpenAI's error shape."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from fairlead.model import Complete, CompleteWhy, Reject, RejectWhy, RequestError

_REJECTIONS: dict[RejectWhy, tuple[int, str]] = {
    RejectWhy.QUEUE_FULL: (429, "too many requests are waiting"),
    RejectWhy.NO_HEADROOM: (429, "no instance would meet this request's objective now"),
    RejectWhy.WAITED_TOO_LONG: (429, "the request waited too long for an instance"),
    RejectWhy.NO_INSTANCE: (503, "no instance of this model is up"),
    RejectWhy.DRAINING: (503, "this server is about to stop"),
    RejectWhy.TOO_LONG: (
        400,
        "prompt and max_tokens are too long for every instance; ask for less",
    ),
    RejectWhy.UNSUPPORTED: (400, "no engine of this model can do what the request asks for"),
}


def of_rejection(action: Reject) -> RequestError:
    """A rejection as an answer; it can be tried again where that may help."""
    status, text = _REJECTIONS[action.why]
    retry_s = action.retry_after_s
    text = _with_reason(text, action.said)
    if status in (429, 503):
        text += (
            f"; try again in {_whole(retry_s)} s" if retry_s is not None else "; try again later"
        )
    return RequestError(
        text,
        status=status,
        code=action.why.value.replace("-", "_"),
        kind=_kind(status),
        retry_after_s=retry_s,
    )


_BAD_ENDS: dict[CompleteWhy, str] = {
    CompleteWhy.INSTANCES_LOST: "one instance after the other died under this request; if it"
    " happens again, the request itself may be the cause",
    CompleteWhy.NO_INSTANCE_LEFT: "the instance died and there was no other to go on; try again",
    CompleteWhy.NOWHERE_FITS: "the instance died and no other can hold this request; ask for less",
    CompleteWhy.CANNOT_GO_ON: "the instance died in the middle of this answer, and no other can go"
    " on with it; ask again",
}


def of_end(action: Complete) -> RequestError:
    """An accepted request that ended without a full answer."""
    text = _BAD_ENDS.get(action.why, f"the request was {action.outcome.value}: {action.why.value}")
    return RequestError(
        _with_reason(text, action.said),
        status=503,
        code=action.why.value.replace("-", "_"),
        kind=_kind(503),
    )


def _with_reason(text: str, said: str) -> str:
    return f"{text}; the engine said: {said}" if said else text


def body(error: RequestError) -> bytes:
    """`{"error": {...}}` as JSON."""
    fields: dict[str, Any] = {
        "message": str(error),
        "type": error.kind,
        "param": error.param,
        "code": error.code,
    }
    return msgspec.json.encode({"error": fields})


def headers(error: RequestError) -> list[tuple[bytes, bytes]]:
    found = [(b"content-type", b"application/json")]
    if error.status in (429, 503):
        found.append((b"retry-after", b"%d" % _whole(error.retry_after_s)))
    return found


def _whole(seconds: float | None) -> int:
    return max(math.ceil(seconds), 1) if seconds is not None else 1


def _kind(status: int) -> str:
    return {429: "rate_limit_error", 503: "server_error"}.get(status, "invalid_request_error")
