"""`fairlead replay` from its arguments to its files, against a tiny server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.main import main
from tests.client.fake_server import FakeServer

TRACE = "azure-conv-slice"


def replayed(tmp_path: Path, server: FakeServer, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Plays a few short rows quickly; returns the exit status and the Summary."""
    out = tmp_path / "s.json"
    short = ("--scale", "0.02", "--limit", "12", "--out", str(out))
    pace = () if "--concurrency" in arguments else ("--rate", "200")
    status = main(["replay", TRACE, "--url", server.url, *short, *pace, *arguments])
    return status, json.loads(out.read_text()) if out.exists() else {}


def test_every_request_is_accounted_for(tmp_path: Path, server: FakeServer) -> None:
    server.cached_tokens = 2
    status, summary = replayed(tmp_path, server)
    assert status == 0
    assert summary["requests"]["finished"] == summary["requests"]["total"] == 12
    assert summary["classes"]["batch"]["attainment"] == 1
    assert summary["output_tokens_per_s"] > 0
    assert summary["ttft_s"]["p50"] > 0
    assert 0 < summary["prefix_hit_ratio"] < 1
    assert summary["client"]["statuses"] == {"200": 12}
    assert summary["client"]["arrivals"].startswith("trace, times multiplied by")
    assert "interrupted" not in summary
    # What was sent is what the trace says: row 0 has 374 and 44 tokens.
    assert len(server.bodies) == 12
    first = server.bodies[0]
    assert (len(first["prompt"]), first["max_tokens"]) == (7, 1)
    assert all(1000 <= token <= 9000 for token in first["prompt"])
    assert "service_tier" not in first
    assert "fairlead" not in first


def test_the_table_has_eighty_columns(
    tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    replayed(tmp_path, server)
    text = capsys.readouterr().out
    assert "objective met" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_gateway_is_asked_by_class_and_watched(tmp_path: Path, gateway: FakeServer) -> None:
    gateway.metrics = (
        'fairlead_instance_running{instance="i0"} 1\nfairlead_instance_waiting{instance="i0"} 0\n'
        "fairlead_preemptions_total 4\n"
    )
    status, summary = replayed(tmp_path, gateway, "--mix", "interactive=0.5,batch=0.5")
    assert status == 0
    assert set(summary["classes"]) == {"interactive", "batch"}
    tiers = {body["service_tier"] for body in gateway.bodies}
    assert tiers == {"interactive", "batch"}
    assert all(32 <= token <= 126 for body in gateway.bodies for token in body["prompt"])
    assert summary["instances"]["n_max"] == 1
    assert summary["preemptions"] == 0
    assert list(summary["curves"]["load"]) == ["i0"]


def test_positions_that_are_right_end_well(tmp_path: Path, gateway: FakeServer) -> None:
    status, summary = replayed(tmp_path, gateway, "--check-positions")
    assert status == 0
    assert summary["positions"]["ok"]
    assert summary["positions"]["streams"] == 12


@pytest.mark.parametrize("misdeed", ["repeat", "skip", "end-early", "unmarked", "break-off"])
def test_positions_that_are_wrong_end_with_status_1(
    tmp_path: Path, gateway: FakeServer, misdeed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.misdeed = misdeed
    status, summary = replayed(tmp_path, gateway, "--check-positions")
    assert status == 1
    if misdeed == "break-off":
        assert summary["requests"]["failed"] > 0
        assert "the stream broke off before its end" in summary["client"]["reasons"]
    else:
        assert not summary["positions"]["ok"]
        assert summary["positions"]["faults"]
        assert "positions:" in capsys.readouterr().out


def test_positions_need_a_gateway_that_tells_them(
    tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replayed(tmp_path, server, "--check-positions")[0] == 2
    assert "is no Fairlead gateway" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_rejections_and_failures_are_told_apart(tmp_path: Path, server: FakeServer) -> None:
    server.misdeed = "reject-odd"
    status, summary = replayed(tmp_path, server)
    assert status == 0
    assert summary["requests"]["rejected"] == summary["requests"]["finished"] == 6
    assert summary["attainment"] == 0.5
    assert summary["client"]["reasons"] == {"429: too busy": 6}


def test_no_request_finished_is_not_what_was_asked(tmp_path: Path, server: FakeServer) -> None:
    server.misdeed = "fail-all"
    status, summary = replayed(tmp_path, server)
    assert status == 1
    assert summary["requests"]["failed"] == 12
    assert summary["client"]["reasons"] == {"400: no such tier": 12}


def test_an_error_inside_a_stream_fails_it(tmp_path: Path, server: FakeServer) -> None:
    server.misdeed = "error-event"
    _, summary = replayed(tmp_path, server)
    assert summary["requests"]["failed"] > 0
    assert "instance lost" in summary["client"]["reasons"]


def test_a_closed_loop_keeps_as_many_streams_as_asked(tmp_path: Path, server: FakeServer) -> None:
    server.token_s = 0.001
    status, summary = replayed(tmp_path, server, "--concurrency", "4")
    assert status == 0
    assert server.most_in_flight == summary["client"]["max_in_flight"] == 4
    assert summary["requests"]["total"] == 12
    assert summary["client"]["send_late_s"]["p99"] is None


def test_with_a_duration_the_trace_starts_over_with_other_prompts(
    tmp_path: Path, server: FakeServer
) -> None:
    server.token_s = 0.001
    status, summary = replayed(tmp_path, server, "--concurrency", "4", "--duration", "0.5")
    assert status == 0
    assert summary["requests"]["finished"] == summary["requests"]["total"] > 12
    prompts = {tuple(body["prompt"]) for body in server.bodies}
    assert len(prompts) == len(server.bodies)


def test_a_cap_on_requests_in_flight_holds_and_shows(tmp_path: Path, server: FakeServer) -> None:
    server.token_s = 0.002
    _, summary = replayed(tmp_path, server, "--max-in-flight", "2")
    assert server.most_in_flight == 2
    # Requests count from when they were due, so waiting for the cap is not hidden.
    assert summary["ttft_s"]["max"] > summary["client"]["send_late_s"]["p50"] > 0


def test_chat_works_too(tmp_path: Path, server: FakeServer) -> None:
    status, summary = replayed(tmp_path, server, "--api", "chat")
    assert status == 0
    assert summary["requests"]["finished"] == 12
    assert "messages" in server.bodies[0]


def test_a_page_shows_runs_beside_each_other(tmp_path: Path, gateway: FakeServer) -> None:
    replayed(tmp_path, gateway, "--label", "first")
    (tmp_path / "s.json").rename(tmp_path / "first.json")
    html = tmp_path / "page.html"
    beside = ("--beside", str(tmp_path / "first.json"), "--html", str(html), "--label", "second")
    status, _ = replayed(tmp_path, gateway, *beside, "--api-key", "sesame")
    assert status == 0
    page = html.read_text()
    assert page.count("<svg") == 4
    assert "first</th>" in page
    assert "second</th>" in page
    assert "told no load of instances" in page
    assert "sesame" not in page
    assert "src=" not in page  # nothing is fetched from anywhere


def test_a_key_is_sent_and_its_lack_is_told(
    tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.need_key = "sesame"
    assert replayed(tmp_path, server, "--api-key", "sesame")[0] == 0
    assert replayed(tmp_path, server, "--api-key", "wrong")[0] == 2
    assert "--api-key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "other"), "does not serve 'other'; it serves fake"),
        (("--objective", "a:ttft=x"), "--objective"),
        (("--mix", "nosuch=1"), "no objective class is named 'nosuch'"),
        (("--vocab", "5"), "--vocab"),
        (("--window", "9"), "--window"),
        (("--warmup", "-1"), "--warmup"),
        (("--max-in-flight", "0"), "--max-in-flight"),
        (("--html", "/nowhere/page.html"), "there is no folder /nowhere"),
        (("--beside", "/nowhere/s.json"), "cannot read /nowhere/s.json"),
        (("--objectives", "/nowhere/f.toml"), "/nowhere/f.toml does not exist"),
    ],
)
def test_mistakes_get_a_message_before_anything_is_sent(
    tmp_path: Path,
    server: FakeServer,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _ = replayed(tmp_path, server, *arguments)
    assert status == 2
    assert message in capsys.readouterr().err
    assert not server.bodies
    assert not list(tmp_path.iterdir())


def test_nobody_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    assert main(["replay", TRACE, "--url", url, "--out", str(tmp_path / "s.json")]) == 2
    error = capsys.readouterr().err
    assert "nobody answers" in error
    assert "Traceback" not in error


def test_somebody_else_there_is_told(
    tmp_path: Path, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.misdeed = "no-models"
    assert replayed(tmp_path, server)[0] == 2
    assert "does not answer with JSON" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_on_a_full_disk_the_summary_is_printed(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--scale", "0.02", "--limit", "3", "--rate", "100", "--quiet")
    assert main(["replay", TRACE, "--url", server.url, *arguments, "--out", "/dev/full"]) == 1
    captured = capsys.readouterr()
    assert "No space left" in captured.err
    assert json.loads(captured.out)["requests"]["finished"] == 3


def test_the_summary_may_go_to_standard_output(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--scale", "0.02", "--limit", "3", "--rate", "100", "--out", "-")
    assert main(["replay", TRACE, "--url", server.url, *arguments]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["requests"]["total"] == 3
    assert "objective met" in captured.err


def test_ctrl_c_ends_cleanly_with_what_there_is(tmp_path: Path, server: FakeServer) -> None:
    server.token_s = 0.01
    out = tmp_path / "s.json"
    start = "import sys; from fairlead.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "replay", TRACE, "--url", server.url]
    command += ["--scale", "0.1", "--rate", "20", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    while len(server.bodies) < 5 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    printed, error = process.communicate()
    watchdog.cancel()
    assert process.returncode == 1, error
    assert "Traceback" not in error
    summary = json.loads(out.read_text())
    assert summary["interrupted"] is True
    assert summary["requests"]["cancelled"] > 0
    requests = summary["requests"]
    assert requests["total"] == requests["finished"] + requests["cancelled"] < 400
    assert "interrupted" in printed
    assert list(tmp_path.iterdir()) == [out]
