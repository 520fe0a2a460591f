"""Files and batches over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import openai
import pytest
from benchmarks.fake_worker import SPEC

from fairlead.gateway.batches.results import Results
from tests.gateway.batches.conftest import CHAT, Desk, NewDesk, line
from tests.patience import PATIENCE_S


async def test_every_line_has_one_result(desk: Desk) -> None:
    await desk.worker()
    lines = [line(f"c{i}") for i in range(200)]
    lines[50] = '{"custom_id": "broken", "method'
    lines[60] = line("unknown", model="nobody")
    lines[70] = lines[70].replace(CHAT, "/v1/completions")
    lines[80] = line("huge", user="x" * 8000)
    lines[90] = ""
    batch = await desk.until(await desk.submit(lines), "completed", "failed")
    assert batch["request_counts"] == {"total": 199, "completed": 195, "failed": 4}
    answers = await desk.results(batch["output_file_id"])
    gone = {50, 60, 70, 80, 90}
    expected = {f"c{i}" for i in range(200) if i not in gone}
    assert Counter(a["custom_id"] for a in answers) == Counter(expected)
    assert all(a["response"]["body"]["usage"]["completion_tokens"] == 3 for a in answers)
    errors = {e["id"].rsplit("_", 1)[1]: e for e in await desk.results(batch["error_file_id"])}
    assert errors["50"]["error"]["code"] == "invalid_json_line"
    assert errors["60"]["response"]["status_code"] == 404
    assert errors["60"]["custom_id"] == "unknown"
    assert errors["70"]["error"]["code"] == "mismatched_endpoint"
    assert errors["80"]["error"]["code"] == "line_too_long"


async def test_lines_are_of_the_lowest_class_whatever_they_ask_for(desk: Desk) -> None:
    worker = await desk.worker()
    wanted = {"ttft_s": 0.01, "program": "p"}
    row = line("a", service_tier="interactive", stream=True, fairlead=wanted)
    batch = await desk.until(await desk.submit([row]), "completed")
    assert batch["request_counts"]["completed"] == 1
    (submit,) = worker.submits
    assert submit.request.objective.name == "batch"
    assert not submit.request.objective.timed
    assert submit.request.program == "p"


async def test_lines_wait_while_others_wait_at_the_instance(desk: Desk) -> None:
    worker = await desk.worker(pace_s=None)
    id = await desk.submit([line(f"c{i}") for i in range(100)])
    async with asyncio.timeout(PATIENCE_S):
        while not worker.submits:
            await asyncio.sleep(0.01)
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert 0 < len(worker.submits) <= 4
    async with desk.client() as http:
        batch = (await http.post(f"/v1/batches/{id}/cancel")).json()
    assert batch["status"] == "cancelling"
    batch = await desk.until(id, "cancelled")
    assert batch["request_counts"] == {"total": 100, "completed": 0, "failed": 100}
    await worker.until(lambda: len(worker.aborted) == len(worker.submits))
    errors = await desk.results(batch["error_file_id"])
    assert sorted(e["custom_id"] for e in errors) == sorted(f"c{i}" for i in range(100))
    assert {e["error"]["code"] for e in errors} == {"batch_cancelled"}


async def test_what_is_not_run_in_its_window_expires(desk: Desk) -> None:
    worker = await desk.worker(pace_s=None)
    id = await desk.submit([line(f"c{i}") for i in range(10)], window="1h")
    await worker.until(lambda: len(worker.submits) >= 4)
    desk.now_s[0] += 3601
    batch = await desk.until(id, "expired")
    errors = await desk.results(batch["error_file_id"])
    assert [e["error"]["code"] for e in errors] == ["batch_expired"] * 10
    assert batch["expired_at"] == int(desk.now_s[0])


async def test_a_stopped_gateways_batch_goes_on_where_it_was(new_desk: NewDesk) -> None:
    first: Desk = await new_desk()
    worker = await first.worker(pace_s=None)
    id = await first.submit([line(f"c{i}") for i in range(30)])
    await worker.until(lambda: len(worker.submits) >= 4)
    output = first.service.folder / f"file-{id.removeprefix('batch_')}-output"
    async with asyncio.timeout(PATIENCE_S):
        while not output.exists() or not output.stat().st_size:
            worker.step(list(worker.speeches.values()))
            await asyncio.sleep(0.02)
    await first.gateway.stop()
    second: Desk = await new_desk()
    await second.worker()
    batch = await second.until(id, "completed")
    assert batch["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
    answers = await second.results(batch["output_file_id"])
    assert Counter(a["custom_id"] for a in answers) == Counter(f"c{i}" for i in range(30))


async def test_what_a_gateway_writes_as_it_stops_is_not_done_again(
    new_desk: NewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = threading.Event()
    write = Results.write

    def slowly(results: Results, outputs: Sequence[bytes], errors: Sequence[bytes]) -> None:
        write(results, outputs, errors)
        writing.set()
        time.sleep(0.2)

    monkeypatch.setattr(Results, "write", slowly)
    first: Desk = await new_desk()
    await first.worker()
    id = await first.submit([line(f"c{i}") for i in range(30)])
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.to_thread(writing.wait, PATIENCE_S)
    await first.gateway.stop()
    monkeypatch.undo()
    second: Desk = await new_desk()
    await second.worker()
    batch = await second.until(id, "completed")
    assert batch["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
    answers = await second.results(batch["output_file_id"])
    assert Counter(a["custom_id"] for a in answers) == Counter(f"c{i}" for i in range(30))


@pytest.mark.parametrize("n_turns", range(6))
async def test_it_stops_also_in_the_moment_in_which_it_has_heard_of_a_batch(
    desk: Desk, n_turns: int
) -> None:
    """The loop turns a few times until whoever waits for news goes on; it stopped in between."""
    await asyncio.sleep(0.05)
    desk.service.look()
    for _ in range(n_turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await desk.service.stop()


async def test_of_two_gateways_one_runs_a_batch_and_both_show_it(new_desk: NewDesk) -> None:
    one, two = await new_desk(), await new_desk()
    workers = [await one.worker(), await two.worker()]
    id = await one.submit([line(f"c{i}") for i in range(50)])
    batch = await two.until(id, "completed")
    assert batch["request_counts"]["completed"] == 50
    assert sorted(len(w.submits) for w in workers) == [0, 50]


async def test_names_that_occur_twice_fail_the_batch_before_it_begins(desk: Desk) -> None:
    worker = await desk.worker()
    batch = await desk.until(await desk.submit([line("a"), line("b"), line("a")]), "failed")
    (problem,) = batch["errors"]["data"]
    assert (problem["code"], problem["line"]) == ("duplicate_custom_id", 3)
    assert not worker.submits


async def test_too_many_lines_fail_the_batch(new_desk: NewDesk) -> None:
    desk = await new_desk(max_lines=2)
    batch = await desk.until(await desk.submit([line(n) for n in "abc"]), "failed")
    assert batch["errors"]["data"][0]["code"] == "too_many_lines"


async def test_a_tenant_finds_its_own_files_and_batches_only(new_desk: NewDesk) -> None:
    desk = await new_desk(api_keys={"key-a": "acme", "key-b": "other"})
    file = (await desk.upload([line("a")], "key-a")).json()["id"]
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    async with desk.client("key-b") as http:
        assert (await http.get("/v1/files")).json()["data"] == []
        for path in (f"/v1/files/{file}", f"/v1/files/{file}/content"):
            assert (await http.get(path)).status_code == 404
        assert (await http.delete(f"/v1/files/{file}")).status_code == 404
        assert (await http.post("/v1/batches", json=asked)).status_code == 404
    async with desk.client("key-a") as http:
        id = (await http.post("/v1/batches", json=asked)).json()["id"]
        assert (await http.delete(f"/v1/files/{file}")).status_code == 409
        assert [b["id"] for b in (await http.get("/v1/batches")).json()["data"]] == [id]
    async with desk.client("key-b") as http:
        assert (await http.get(f"/v1/batches/{id}")).status_code == 404
        assert (await http.post(f"/v1/batches/{id}/cancel")).status_code == 404
        assert (await http.get("/v1/batches")).json()["data"] == []
    async with desk.client() as http:
        assert (await http.get("/v1/batches")).status_code == 401


async def test_openais_own_client_does_all_of_it(desk: Desk, tmp_path: Path) -> None:
    await desk.worker()
    (tmp_path / "in.jsonl").write_text("\n".join(line(n) for n in "abc"))
    async with openai.AsyncOpenAI(base_url=f"{desk.gateway.url}/v1", api_key="x") as client:
        with (tmp_path / "in.jsonl").open("rb") as data:
            file = await client.files.create(file=data, purpose="batch")
        assert file.filename == "in.jsonl"
        batch = await client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"what": "test"},
        )
        async with asyncio.timeout(PATIENCE_S):
            while batch.status != "completed":
                await asyncio.sleep(0.02)
                batch = await client.batches.retrieve(batch.id)
        assert batch.metadata == {"what": "test"}
        assert batch.output_file_id is not None
        assert batch.error_file_id is None
        text = (await client.files.content(batch.output_file_id)).text
        assert len(text.splitlines()) == 3
        assert [b.id async for b in client.batches.list(limit=1)] == [batch.id]
        names = {f.id async for f in client.files.list(limit=1)}
        assert names == {file.id, batch.output_file_id}
        assert (await client.files.delete(file.id)).deleted


@pytest.mark.parametrize(
    ("content", "head", "code"),
    [
        (b"", {}, "invalid_form"),
        (b"{}", {"content-type": "application/json"}, "invalid_form"),
        (b"x" * 100, {"content-type": "multipart/form-data; boundary=b"}, "invalid_form"),
        (b"--b\r\n", {"content-type": "multipart/form-data; boundary=b"}, "invalid_form"),
    ],
)
async def test_what_is_no_form_is_refused_and_leaves_nothing(
    desk: Desk, content: bytes, head: dict[str, str], code: str, tmp_path: Path
) -> None:
    async with desk.client() as http:
        answer = await http.post("/v1/files", content=content, headers=head)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert not list(tmp_path.glob("file-*"))


async def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(
    new_desk: NewDesk, tmp_path: Path
) -> None:
    desk = await new_desk(max_file_mib=0.01)
    answer = await desk.upload(["x" * 200_000])
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
    desk = await new_desk(max_tenant_gib=0.00001)
    answer = await desk.upload(["x" * 20_000])
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "storage_full")
    assert not list(tmp_path.glob("file-*"))


async def test_a_client_that_leaves_in_the_middle_of_an_upload_leaves_nothing(
    desk: Desk, tmp_path: Path
) -> None:
    host, _, port = desk.gateway.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = "POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n"
    head += "content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(PATIENCE_S):
        while not list(tmp_path.glob("file-*")):
            await asyncio.sleep(0.01)
        writer.close()
        while list(tmp_path.glob("file-*")):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/nothing"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"input_file_id": "../../etc/passwd"}, "id"),
    ],
)
async def test_a_batch_that_cannot_be_is_refused(
    desk: Desk, changes: dict[str, object], param: str
) -> None:
    file = (await desk.upload([line("a")])).json()["id"]
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"} | changes
    async with desk.client() as http:
        answer = await http.post("/v1/batches", json=asked)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param


async def test_a_large_file_comes_back_whole_and_nobody_holds_it(new_desk: NewDesk) -> None:
    """More than what may wait for one client."""
    desk = await new_desk()
    lines = [json.dumps({"n": i, "x": "y" * 1000}) for i in range(6000)]
    file = (await desk.upload(lines)).json()
    assert file["bytes"] > 5 * 2**20
    async with (
        desk.client() as http,
        http.stream("GET", f"/v1/files/{file['id']}/content") as answer,
    ):
        await asyncio.sleep(0.2)
        data = b"".join([piece async for piece in answer.aiter_bytes()])
    assert data == "\n".join(lines).encode()


async def test_without_a_table_there_are_no_batches(in_memory: httpx.AsyncClient) -> None:
    answer = await in_memory.get("/v1/batches")
    assert answer.status_code == 501
    assert "[batches]" in answer.json()["error"]["message"]


async def test_a_model_that_has_no_instance_is_waited_for(desk: Desk) -> None:
    id = await desk.submit([line("a", model=SPEC.model)])
    await desk.until(id, "in_progress")
    await desk.worker()
    batch = await desk.until(id, "completed")
    assert batch["request_counts"]["completed"] == 1


async def test_uploads_that_a_killed_gateway_left_behind_are_swept_at_the_start(
    new_desk: NewDesk, tmp_path: Path
) -> None:
    desk = await new_desk()
    kept = (await desk.upload([line("a")])).json()["id"]
    orphan, fresh = f"file-{'0' * 24}", f"file-{'1' * 24}"
    results, others = "file-batch-1-output", "notes.txt"
    long_ago_s = time.time() - 2 * 3600
    for name in (orphan, fresh, results, others):
        (tmp_path / name).write_bytes(b"x")
    for name in (orphan, kept, results, others):
        os.utime(tmp_path / name, (long_ago_s, long_ago_s))
    await new_desk()
    async with asyncio.timeout(PATIENCE_S):
        while (tmp_path / orphan).exists():
            await asyncio.sleep(0.01)
    assert all((tmp_path / name).exists() for name in (kept, fresh, results, others))
