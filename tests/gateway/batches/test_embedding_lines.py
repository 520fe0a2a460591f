"""Batches whose lines ask for vectors."""

from __future__ import annotations

import json

import pytest
from benchmarks.fake_worker import SPEC

from fairlead.gateway.batches import run
from fairlead.worker import wire
from tests.gateway.batches.conftest import EMBEDDINGS, Desk, line


def embedding_line(name: str, given: object, **changes: object) -> str:
    body = {"model": SPEC.model, "input": given, **changes}
    return json.dumps({"custom_id": name, "method": "POST", "url": EMBEDDINGS, "body": body})


async def test_lines_may_ask_for_vectors(desk: Desk) -> None:
    worker = await desk.worker()
    lines = [embedding_line(f"c{n}", "x" * n) for n in range(1, 41)]
    lines.append(embedding_line("several", ["abc", "de"], encoding_format="base64"))
    lines.append(embedding_line("wide", "abc", dimensions=99))
    lines.append(line("a chat"))
    id = await desk.submit(lines, endpoint=EMBEDDINGS)
    batch = await desk.until(id, "completed", "failed")
    assert batch["request_counts"] == {"total": 43, "completed": 41, "failed": 2}
    answers = await desk.results(batch["output_file_id"])
    found = {answer["custom_id"]: answer["response"]["body"] for answer in answers}
    for n in range(1, 41):
        (one,) = found[f"c{n}"]["data"]
        assert one["embedding"] == [float((k + 1) * n) for k in range(4)]
        assert found[f"c{n}"]["usage"] == {"prompt_tokens": n, "total_tokens": n}
    assert [type(one["embedding"]) for one in found["several"]["data"]] == [str, str]
    errors = {e["custom_id"]: e for e in await desk.results(batch["error_file_id"])}
    assert errors["wide"]["response"]["body"]["error"]["param"] == "dimensions"
    assert errors["a chat"]["error"]["code"] == "mismatched_endpoint"
    assert {submit.request.objective.name for submit in worker.submits} == {"batch"}
    assert all(submit.request.embeds for submit in worker.submits)


async def test_an_instance_that_never_sends_a_vector_does_not_hold_a_batch_for_ever(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_LET_DOWN", 1)  # Else with pauses of a second.
    worker = await desk.worker(pace_s=None)
    id = await desk.submit([embedding_line("a", "abc")], endpoint=EMBEDDINGS)
    await worker.until(lambda: worker.submits)
    (sent,) = worker.submits
    row = wire.Row(sent.request.id, sent.attempt, 0, [1], "x")
    worker.send(wire.Frame([row], [wire.End(row.request, 1, wire.FinishReason.LENGTH, 0)]))
    batch = await desk.until(id, "completed")
    (error,) = await desk.results(batch["error_file_id"])
    assert error["response"]["body"]["error"]["code"] == "no_vector"
