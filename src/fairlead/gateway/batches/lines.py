"""A line of a batch's input, and a line of its results."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from fairlead.model import RequestError

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
OWN_TIMES = ("ttft_s", "tpot_s", "deadline_s")
MAX_CUSTOM_ID = 512
_ID = re.compile(rb'\{"id":"batch_req_[0-9a-f]+_(\d+)",')
_quote = msgspec.json.Encoder().encode


class _Row(msgspec.Struct):
    custom_id: str
    url: str
    body: dict[str, Any]
    method: str = "POST"


class _Named(msgspec.Struct):
    """As much of a line as its name."""

    custom_id: str = ""


_row = msgspec.json.Decoder(_Row)
_named = msgspec.json.Decoder(_Named)


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch."""

    n: int
    """Its place in the input, from zero; empty lines are not counted."""
    custom_id: str
    model: str
    body: bytes
    """As an HTTP call would have it."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that is no request."""

    n: int
    custom_id: str | None
    error: RequestError


def parse(data: bytes, n: int, batch: str, endpoint: str, service_tier: str) -> Line | Broken:
    """A line as it is to be served: of the lowest class, not streamed, and with a seed of its own
    where it has none, so that it answers the same when it has to be run again."""
    try:
        row = _row.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        text = f"line {n + 1} is no request: {error}; a line is "
        text += '{"custom_id": "…", "method": "POST", "url": "' + endpoint + '", "body": {…}}'
        return Broken(n, name_of(data) or None, RequestError(text, code="invalid_json_line"))
    problem = _problem(row, endpoint)
    if problem is not None:
        return Broken(n, row.custom_id[:MAX_CUSTOM_ID], problem)
    body = row.body
    body["service_tier"] = service_tier
    body["stream"] = False
    body.pop("stream_options", None)
    if isinstance(hints := body.get("fairlead"), dict):
        body["fairlead"] = {key: hints[key] for key in hints if key not in OWN_TIMES}
    if body.get("seed") is None:
        body["seed"] = seed_of(batch, n)
    try:
        return Line(n, row.custom_id, str(body.get("model", "")), _quote(body))
    except OverflowError as error:
        said = RequestError(f"line {n + 1}: {error}", code="invalid_json_line")
        return Broken(n, row.custom_id, said)


def _problem(row: _Row, endpoint: str) -> RequestError | None:
    if not 0 < len(row.custom_id) <= MAX_CUSTOM_ID:
        said = f"custom_id must have 1 to {MAX_CUSTOM_ID} characters"
        return RequestError(said, code="invalid_custom_id", param="custom_id")
    if row.method != "POST":
        said = f"method must be POST, got {row.method!r}"
        return RequestError(said, code="invalid_method", param="method")
    if row.url != endpoint:
        said = f"url must be the batch's endpoint {endpoint}, got {row.url!r}"
        return RequestError(said, code="mismatched_endpoint", param="url")
    return None


def name_of(data: bytes) -> str:
    """A line's custom_id; empty where it has none."""
    try:
        return _named.decode(data).custom_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def seed_of(batch: str, n: int) -> int:
    digest = hashlib.blake2b(f"{batch}:{n}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def answered(
    batch: str, n: int, custom_id: str | None, status: int, request_id: str, body: bytes
) -> bytes:
    """A line of a result file: what an HTTP call would have been answered with."""
    head = b'"response":{"status_code":%d,"request_id":%b,"body":' % (status, _quote(request_id))
    return _opening(batch, n, custom_id) + head + body + b'},"error":null}\n'


def failed(batch: str, n: int, custom_id: str | None, code: str, message: str) -> bytes:
    """A line of an error file for a request that was never made."""
    error = _quote({"code": code, "message": message})
    return _opening(batch, n, custom_id) + b'"response":null,"error":' + error + b"}\n"


def _opening(batch: str, n: int, custom_id: str | None) -> bytes:
    stem = batch.removeprefix("batch_").encode()
    return b'{"id":"batch_req_%b_%d","custom_id":%b,' % (stem, n, _quote(custom_id))


def number_of(result: bytes) -> int | None:
    """Which line of the input a whole line of a result file answers; None where it is torn."""
    found = _ID.match(result)
    if found is None or not result.endswith(b"}\n"):
        return None
    return int(found[1])
