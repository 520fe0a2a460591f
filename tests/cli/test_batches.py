"""`fairlead batches` against a server that answers as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.main import main

BATCH = {
    "id": "batch_1",
    "status": "in_progress",
    "request_counts": {"total": 3, "completed": 1, "failed": 0},
    "created_at": 0,
    "expires_at": 86400,
    "output_file_id": None,
    "error_file_id": None,
    "errors": None,
}
ENDED = BATCH | {
    "status": "completed",
    "request_counts": {"total": 3, "completed": 2, "failed": 1},
    "output_file_id": "file-o",
    "error_file_id": "file-e",
}


class Server(ThreadingHTTPServer):
    uploaded = b""
    asked: dict[str, Any]
    n_looks = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/files":
            self.server.uploaded = data
            self._say({"id": "file-1"})
        else:
            self.server.asked = json.loads(data)
            self._say(BATCH)

    def do_GET(self) -> None:
        if self.path.endswith("/content"):
            self._say(self.path.encode())
        elif self.path.startswith("/v1/files/"):
            self._say({"bytes": 20})
        else:
            self.server.n_looks += 1
            if self.server.n_looks == 1:  # A gateway that is just being started again.
                self.send_error(503)
            else:
                self._say(ENDED if self.server.n_looks > 2 else BATCH)

    def _say(self, what: object) -> None:
        data = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text('{"custom_id": "a", "url": "/v1/completions", "body": {}}\n')
    return path


def test_submit_waits_over_a_restart_and_fetches_both_files(
    server: Server, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.cli.batches.LOOK_S", 0.0)
    out = lines.with_name("out.jsonl")
    url = f"http://127.0.0.1:{server.server_port}"
    words = ["batches", "submit", str(lines), "--url", url, "--out", str(out), "--meta", "a=b"]
    assert main(words) == 1, "a line failed"
    assert lines.read_bytes() in server.uploaded
    assert b'filename="in.jsonl"' in server.uploaded
    assert server.asked["endpoint"] == "/v1/completions"
    assert server.asked["metadata"] == {"a": "b"}
    assert out.read_text() == "/v1/files/file-o/content"
    assert Path(f"{out}.errors").read_text() == "/v1/files/file-e/content"
    assert not list(out.parent.glob("*.part"))


def test_what_is_not_over_is_not_downloaded(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.n_looks = 1
    url = f"http://127.0.0.1:{server.server_port}"
    assert main(["batches", "download", "batch_1", "--url", url]) == 2
    assert "show batch_1 --wait" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"), [("", "--endpoint"), ("[]", "--endpoint"), (None, "No such file")]
)
def test_a_file_that_cannot_be_submitted_says_why(
    text: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in"
    if text is not None:
        path.write_text(text)
    assert main(["batches", "submit", str(path)]) == 2
    assert said in capsys.readouterr().err


def test_nobody_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batches", "list", "--url", "http://127.0.0.1:1"]) == 2
    assert "fairlead serve" in capsys.readouterr().err
