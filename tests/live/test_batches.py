"""kill -9 of the gateway in the middle of a batch: every line has one result, and counts once."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import LiveFleet
from tests.patience import PATIENCE_S

STORES = """
[tenants]
database = "{folder}/fairlead.db"
journal = "{folder}/calls"

[batches]
folder = "{folder}/files"
"""
FLEET = (
    STORES
    + """
[[pool]]
model = "m"
engine = "emulated"
hardware = "h100-llama-3.1-8b"
instances = 1
max_sequences = 8
"""
)
EMBEDDING = (
    STORES
    + """
[[pool]]
model = "fairlead-nano"
engine = "embedded"
instances = 1
threads = 1
kv_gib = 0.1
"""
)
N, BROKEN = 240, 51


def command(*words: str, check: bool = True) -> str:
    line = [sys.executable, "-m", "fairlead", *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def write_lines(path: Path) -> None:
    """Of all lengths, one of them broken."""
    with path.open("w") as file:
        for i in range(N):
            if i == BROKEN:
                file.write('{"custom_id": "broken", "method":\n')
                continue
            body = {"model": "m", "prompt": f"ship {i} " * 5, "max_tokens": 20 + 7 * i % 60}
            row = {"custom_id": f"c{i}", "method": "POST", "url": "/v1/completions"}
            file.write(json.dumps({**row, "body": {**body, "ignore_eos": True}}) + "\n")


def ledger(folder: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(folder / "fairlead.db") as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("select * from calls")]


Fleets = Callable[[str], LiveFleet]


def run_with_kills(
    serve: Fleets, folder: Path, text: str, n: int, shares: tuple[float, ...]
) -> list[dict[str, Any]]:
    """The answers of the batch of `n` lines in `in.jsonl`, one of them broken; the gateway dies
    once each of `shares` is written."""
    key = command("keys", "create", "acme", "--database", f"{folder}/fairlead.db")
    fleet = serve(text)
    fleet.wait_for_instances(1)

    def batches(*words: str, check: bool = True) -> Any:
        where = ("--url", fleet.url, "--api-key", key, "--json")
        return json.loads(command("batches", *words, *where, check=check))

    id = batches("submit", str(folder / "in.jsonl"))["id"]
    for share in shares:
        output = folder / "files" / f"file-{id.removeprefix('batch_')}-output"

        def written(output: Path = output) -> int:
            return output.read_bytes().count(b"\n") if output.exists() else 0

        fleet.wait_until(lambda share=share: written() > share * n, f"{share:.0%} written")
        assert written() < n - 1, "the batch was over before anybody was killed"
        os.kill(fleet.process.pid, signal.SIGKILL)
        fleet.process.wait()
        fleet = serve(text)
        fleet.wait_for_instances(1)
    end = batches("show", id, "--wait", check=False)
    assert end["status"] == "completed"
    assert end["request_counts"] == {"total": n, "completed": n - 1, "failed": 1}
    batches("download", id, "--out", str(folder / "out.jsonl"), check=False)
    answers = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    errors = [json.loads(x) for x in (folder / "out.jsonl.errors").read_text().splitlines()]
    expected = {f"c{i}" for i in range(n) if i != BROKEN}
    assert Counter(a["custom_id"] for a in answers) == Counter(expected)
    assert [error["error"]["code"] for error in errors] == ["invalid_json_line"]
    fleet.wait_until(lambda: len(ledger(folder)) >= n - 1, "all calls in the ledger")
    calls = ledger(folder)
    assert len({call["id"] for call in calls}) == len(calls) == n - 1
    return answers


def test_kill_9_of_the_gateway_loses_and_repeats_no_line(serve: Fleets, tmp_path: Path) -> None:
    write_lines(tmp_path / "in.jsonl")
    answers = run_with_kills(serve, tmp_path, FLEET.format(folder=tmp_path), N, (0.1, 0.6))
    for answer in answers:
        i = int(answer["custom_id"][1:])
        assert answer["response"]["body"]["usage"]["completion_tokens"] == 20 + 7 * i % 60
    told = sum(a["response"]["body"]["usage"]["completion_tokens"] for a in answers)
    assert sum(call["output_tokens"] for call in ledger(tmp_path)) == told


def test_neither_is_one_of_embeddings_lost_or_repeated(serve: Fleets, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs fairlead[engine]")
    with (tmp_path / "in.jsonl").open("w") as file:
        for i in range(N):
            row = {"custom_id": f"c{i}", "method": "POST", "url": "/v1/embeddings"}
            body = {"model": "fairlead-nano", "input": f"ship {i} " * (1 + i % 4)}
            text = json.dumps({**row, "body": {**body, "encoding_format": "base64"}})
            file.write((text if i != BROKEN else '{"custom_id": "broken", "method":') + "\n")
    answers = run_with_kills(serve, tmp_path, EMBEDDING.format(folder=tmp_path), N, (0.3,))
    vectors = {a["response"]["body"]["data"][0]["embedding"] for a in answers}
    assert len(vectors) == N - 1
    told = sum(a["response"]["body"]["usage"]["prompt_tokens"] for a in answers)
    calls = ledger(tmp_path)
    assert sum(call["prompt_tokens"] for call in calls) == told
    assert sum(call["output_tokens"] for call in calls) == 0
