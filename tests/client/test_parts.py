"""Addresses, bodies, metrics, files: the client's parts one by one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fairlead.client.axes import require_matplotlib
from fairlead.client.body import Api, Asking
from fairlead.client.load import LoadSeries, parse_metrics
from fairlead.client.out_file import OutFile, WriteError
from fairlead.client.replay import WantedObjectives
from fairlead.client.server import Server, base_url
from fairlead.model import BATCH, ConfigError, Objective
from fairlead.workload.prompts import PRINTABLE_BYTES, PromptMaker
from fairlead.workload.trace import TraceRow

METRICS = """\
# HELP fairlead_instance_running Sequences in its batch
# TYPE fairlead_instance_running gauge
fairlead_instance_running{instance="i0"} 3.0
fairlead_instance_running{pool="a,b",instance="i\\"1"} 4
fairlead_instance_waiting{instance="i0"} 1.0
fairlead_instance_kv_fraction{instance="i0"} 0.25
fairlead_preemptions_total{why="x"} 2
fairlead_preemptions_total{why="y"} 3
fairlead_resumed_total 7.0
vllm_something{instance="i0"} NaN
"""


def test_metrics_give_load_and_totals() -> None:
    page = parse_metrics(METRICS)
    assert page.instances == {
        "i0": {"running": 3.0, "waiting": 1.0, "kv_fraction": 0.25},
        'i\\"1': {"running": 4.0},
    }
    assert page.counters == {"fairlead_preemptions_total": 5, "fairlead_resumed_total": 7}
    assert not parse_metrics("<html>").instances


def test_a_series_counts_what_grew_and_instance_hours() -> None:
    series = LoadSeries()
    series.add(parse_metrics(METRICS), 0.0)
    series.add(parse_metrics(METRICS.replace("total 7", "total 9")), 1800.0)
    assert series.counted("fairlead_resumed_total") == 2
    assert series.counted("fairlead_preemptions_total") == 0
    assert series.counted("fairlead_handoffs_total") is None
    assert (series.instances.n_max, series.instances.hours) == (2, 1.0)
    assert len(series.samples) == 4


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("https://host/v1/", "https://host"),
        ("http://host/prefix/v1", "http://host/prefix"),
    ],
)
def test_addresses_are_taken_as_people_write_them(url: str, expected: str) -> None:
    assert base_url(url) == expected


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", "http://host:99999"])
def test_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        base_url(url)


INTERACTIVE = Objective("interactive", ttft_s=1.0, tpot_s=0.05)
ROW = TraceRow(3, 0.0, 40, 7, session_id="p", tenant="alice", priority=2)


def body(server: Server, objective: Objective, **options: object) -> dict[str, object]:
    asking = Asking(
        server,
        options.pop("api", Api.COMPLETIONS),  # type: ignore[arg-type]
        PromptMaker(0, PRINTABLE_BYTES),
        PRINTABLE_BYTES,
        **options,  # type: ignore[arg-type]
    )
    decoded: dict[str, object] = json.loads(asking.body(ROW, objective))
    return decoded


def test_any_server_gets_exact_lengths_and_no_fields_of_ours() -> None:
    sent = body(Server("http://h", "m"), INTERACTIVE, seed=5)
    prompt = sent.pop("prompt")
    assert isinstance(prompt, list)
    assert len(prompt) == 40
    assert sent == {
        "model": "m",
        "max_tokens": 7,
        "min_tokens": 7,
        "ignore_eos": True,
        "temperature": 0,
        "seed": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "alice",
    }


def test_chat_sends_text() -> None:
    sent = body(Server("http://h", "m"), BATCH, api=Api.CHAT)
    (message,) = sent["messages"]  # type: ignore[misc]
    assert len(message["content"]) == 40
    assert "prompt" not in sent


def test_a_gateway_gets_its_class_the_program_and_the_priority() -> None:
    server = Server("http://h", "m", is_fairlead=True, objectives={"interactive": INTERACTIVE})
    sent = body(server, INTERACTIVE, send_tier=True, check_positions=True)
    assert sent["service_tier"] == "interactive"
    assert sent["fairlead"] == {"program": "p", "positions": True}
    assert sent["priority"] == 2


def test_a_class_that_the_gateway_does_not_know_goes_as_times() -> None:
    server = Server("http://h", "m", is_fairlead=True, objectives={"interactive": INTERACTIVE})
    sent = body(server, Objective("quick", ttft_s=0.2), send_tier=True)
    assert "service_tier" not in sent
    assert sent["fairlead"] == {"ttft_s": 0.2, "program": "p"}


def test_objectives_are_the_users_else_the_gateways_else_batch() -> None:
    gateway = Server("http://h", "m", objectives={"a": INTERACTIVE, "b": BATCH}, default_class="b")
    assert WantedObjectives().against(gateway).default == "b"
    assert WantedObjectives().against(Server("http://h", "m")).default == "batch"
    own = {"task": Objective("task", deadline_s=9.0)}
    wanted = WantedObjectives(own, "task").against(gateway)
    assert (list(wanted.classes), wanted.default) == (["task"], "task")
    with pytest.raises(ConfigError, match="no objective class is named 'c'"):
        WantedObjectives(mix={"c": 1.0}).against(gateway)


def test_a_result_replaces_the_old_one_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text("old")
    out = OutFile(path)
    assert path.read_text() == "old"
    out.write("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    OutFile(path).give_up()
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_without_a_place_is_found_out_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        OutFile(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        OutFile(tmp_path / "none" / "s.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told() -> None:
    with pytest.raises(WriteError, match="No space left"):
        OutFile(Path("/dev/full")).write("x" * 100_000)


def test_plots_without_matplotlib_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"fairlead\[plots\]"):
        require_matplotlib()
