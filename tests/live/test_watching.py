"""A fleet of real processes, looked at from outside: structured logs, traces, `fairlead top`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.live.conftest import LiveFleet, free_port
from tests.patience import PATIENCE_S

FLEET = """\
[gateway]
listen = "127.0.0.1:{port}"
log_format = "json"
otlp = "{otlp}"
event_log = "{log}"

[[pool]]
name = "chat"
model = "m"
engine = "emulated"
hardware = "h100-llama-3.1-8b"
instances = 1

[objectives.interactive]
ttft_s = 1.0
"""


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[tuple[str, bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_logs_are_json_traces_arrive_and_top_shows_the_fleet(
    tmp_path: Path, collector: Collector
) -> None:
    proto = pytest.importorskip(
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
        reason="OpenTelemetry is not installed: fairlead[otel]",
    )
    port = free_port()
    path = tmp_path / "fleet.toml"
    otlp = f"http://127.0.0.1:{collector.server_address[1]}"
    path.write_text(FLEET.format(port=port, otlp=otlp, log=tmp_path / "events.log"))
    fleet = LiveFleet(path, port)
    try:
        fleet.wait_for_instances(1)
        body = {"model": "m", "prompt": "a secret", "max_tokens": 4}
        assert fleet.post("/v1/completions", body)[0] == 200
        top = [sys.executable, "-m", "fairlead", "top", "--url", fleet.url]
        shown = subprocess.run(top, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        assert "1 instances" in shown.stdout
        assert "i0" in shown.stdout
        asked = {"last_s": 60, "routing": "dualmap", "instances": {"chat": 2}}
        status, found = fleet.post("/dashboard/replay", asked)
        assert status == 200, found
        assert found["summary"]["instances"]["n_max"] == 2
        assert found["summary"]["policy"]["routing"] == "dualmap"
        assert found["summary"]["as_it_was"]["requests"]["finished"] == 1
        assert found["command"].startswith("fairlead simulate --from-log")
    finally:
        fleet.process.terminate()
        fleet.process.wait(60)
    lines = [json.loads(line) for line in fleet.log.read_text().splitlines()]
    assert {"instance.up", "gateway.says", "fleet.draining"} <= {line["event"] for line in lines}
    assert all(line["time"].endswith("Z") and line["level"] for line in lines)
    spans = []
    for where, data in collector.bodies:
        assert where == "/v1/traces"
        message = proto.ExportTraceServiceRequest.FromString(data)
        spans += [s for r in message.resource_spans for scope in r.scope_spans for s in scope.spans]
    assert {span.name for span in spans} == {"request", "queued", "prefill", "decode"}
    assert not any(b"secret" in data for _, data in collector.bodies)
    assert "secret" not in fleet.log.read_text()
    assert "secret" not in (tmp_path / "events.log").read_text()


def test_a_collector_that_is_away_hinders_nobody(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not installed")
    port = free_port()
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET.format(port=port, otlp=f"http://127.0.0.1:{free_port()}", log=""))
    fleet = LiveFleet(path, port)
    try:
        fleet.wait_for_instances(1)
        body = {"model": "m", "prompt": "hello", "max_tokens": 2}
        assert fleet.post("/v1/completions", body)[0] == 200
    finally:
        fleet.process.terminate()
        assert fleet.process.wait(60) == 0
    for line in fleet.log.read_text().splitlines():
        json.loads(line)
