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

from tests.live.conftest import PATIENCE_S, LiveFleet

FLEET = """
[tenants]
database = "{folder}/fairlead.db"
journal = "{folder}/calls"

[batches]
folder = "{folder}/files"

[[pool]]
model = "m"
engine = "emulated"
hardware = "h100-llama-3.1-8b"
instances = 1
max_sequences = 8
"""
N, BROKEN = 600, 123


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


def test_kill_9_of_the_gateway_loses_and_repeats_no_line(
    serve: Callable[[str], LiveFleet], tmp_path: Path
) -> None:
    text = FLEET.format(folder=tmp_path)
    key = command("keys", "create", "acme", "--database", f"{tmp_path}/fairlead.db")
    fleet = serve(text)
    fleet.wait_for_instances(1)
    write_lines(tmp_path / "in.jsonl")

    def batches(*words: str, check: bool = True) -> Any:
        where = ("--url", fleet.url, "--api-key", key, "--json")
        return json.loads(command("batches", *words, *where, check=check))

    id = batches("submit", str(tmp_path / "in.jsonl"))["id"]
    kills = 0
    for share in (0.1, 0.6):
        output = tmp_path / "files" / f"file-{id.removeprefix('batch_')}-output"

        def written(output: Path = output) -> int:
            return output.read_bytes().count(b"\n") if output.exists() else 0

        fleet.wait_until(lambda share=share: written() > share * N, f"{share:.0%} written")
        assert written() < N - 1, "the batch was over before anybody was killed"
        os.kill(fleet.process.pid, signal.SIGKILL)
        fleet.process.wait()
        kills += 1
        fleet = serve(text)
        fleet.wait_for_instances(1)
    assert kills == 2
    end = batches("show", id, "--wait", check=False)
    assert end["status"] == "completed"
    assert end["request_counts"] == {"total": N, "completed": N - 1, "failed": 1}
    batches("download", id, "--out", str(tmp_path / "out.jsonl"), check=False)
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    errors = [json.loads(x) for x in (tmp_path / "out.jsonl.errors").read_text().splitlines()]
    expected = {f"c{i}" for i in range(N) if i != BROKEN}
    assert Counter(a["custom_id"] for a in answers) == Counter(expected)
    assert [error["error"]["code"] for error in errors] == ["invalid_json_line"]
    for answer in answers:
        i = int(answer["custom_id"][1:])
        assert answer["response"]["body"]["usage"]["completion_tokens"] == 20 + 7 * i % 60
    fleet.wait_until(lambda: len(ledger(tmp_path)) >= N - 1, "all calls in the ledger")
    calls = ledger(tmp_path)
    assert len({call["id"] for call in calls}) == len(calls) == N - 1
    told = sum(a["response"]["body"]["usage"]["completion_tokens"] for a in answers)
    assert sum(call["output_tokens"] for call in calls) == told
