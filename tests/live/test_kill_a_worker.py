"""Workers die with -9 under load; no stream notices more than a pause."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.live.conftest import LiveFleet
from tests.patience import PATIENCE_S

Stream = dict[str, Any]


def stream(fleet: LiveFleet, body: dict[str, Any], into: Stream) -> None:
    """One streamed completion: its text, positions and how it ended."""
    into.update(text="", positions=[], finish=None, error=None)
    request = urllib.request.Request(
        fleet.url + "/v1/completions",
        json.dumps({**body, "stream": True, "fairlead": {"positions": True}}).encode(),
        {"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as lines:
            for line in lines:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    into["error"] = chunk["error"]
                    return
                for choice in chunk["choices"]:
                    into["text"] += choice["text"]
                    into["finish"] = choice["finish_reason"] or into["finish"]
                if "fairlead" in chunk:
                    at = chunk["fairlead"]
                    into["positions"] += range(at["position"], at["position"] + at["n"])
    except OSError as error:
        into["error"] = repr(error)


def play(fleet: LiveFleet, bodies: list[dict[str, Any]], deaths: int) -> list[Stream]:
    """All streams at once; a worker is killed whenever another part of the tokens has come."""
    streams: list[Stream] = [{} for _ in bodies]
    threads = [
        threading.Thread(target=stream, args=(fleet, body, into))
        for body, into in zip(bodies, streams, strict=True)
    ]
    for thread in threads:
        thread.start()
    total = sum(body["max_tokens"] for body in bodies)
    for death in range(deaths):
        due = total * (death + 1) // (deaths + 2)
        fleet.wait_until(
            lambda: sum(len(s.get("positions", ())) for s in streams) >= due,  # noqa: B023
            f"{due} tokens",
        )
        fleet.kill_a_worker()
    for thread in threads:
        thread.join(PATIENCE_S)
    return streams


def check(streams: list[Stream], bodies: list[dict[str, Any]]) -> None:
    for one, body in zip(streams, bodies, strict=True):
        assert one["error"] is None
        assert one["finish"] == "length"
        assert one["positions"] == list(range(body["max_tokens"])), "repeated or skipped"


def emulated_bodies(n: int, at_least: int) -> list[dict[str, Any]]:
    """Of `at_least` tokens and more."""
    return [
        {
            "model": "llama-3.1-8b",
            "prompt": list(range(32, 72 + i)),
            "max_tokens": at_least + i,
            "seed": i,
            "ignore_eos": True,
        }
        for i in range(n)
    ]


def nano_bodies(n: int, at_least: int) -> list[dict[str, Any]]:
    """Of `at_least` tokens and more, greedy and drawn by turns."""
    return [
        {
            "model": "fairlead-nano",
            "prompt": [65 + (7 * i + j) % 26 for j in range(40)],
            "max_tokens": at_least + i,
            "temperature": 0.8 * (i % 2),
            "seed": i,
            "ignore_eos": True,
        }
        for i in range(n)
    ]


def test_no_stream_of_an_emulated_fleet_fails_repeats_or_skips_a_token(
    serve: Callable[[str], LiveFleet],
) -> None:
    fleet = serve(
        """
        [[pool]]
        model = "llama-3.1-8b"
        engine = "emulated"
        hardware = "h100-llama-3.1-8b"
        instances = 3
        """
    )
    fleet.wait_for_instances(3)
    bodies = emulated_bodies(24, at_least=250)
    undisturbed = play(fleet, bodies, deaths=0)
    check(undisturbed, bodies)
    disturbed = play(fleet, bodies, deaths=2)
    check(disturbed, bodies)
    assert [s["text"] for s in disturbed] == [s["text"] for s in undisturbed]
    assert fleet.metric("fairlead_instance_deaths_total") == 2
    assert fleet.metric("fairlead_resumed_total") >= 1
    fleet.wait_for_instances(3)  # The dead were started again.


def test_greedy_and_seeded_text_is_what_an_undisturbed_run_produces(
    serve: Callable[[str], LiveFleet],
) -> None:
    """In float32, on the embedded engine, whatever batch a token is computed in."""
    pytest.importorskip("torch", reason="needs fairlead[engine]")
    fleet = serve(
        """
        [[pool]]
        model = "fairlead-nano"
        engine = "embedded"
        instances = 2
        threads = 1
        kv_gib = 0.2
        """
    )
    fleet.wait_for_instances(2)
    bodies = [
        {
            "model": "fairlead-nano",
            "prompt": f"Tell me about number {i}.",
            "max_tokens": 120,
            "temperature": 0.0 if i % 2 else 1.0,
            "seed": i,
            "ignore_eos": True,
        }
        for i in range(8)
    ]
    undisturbed = play(fleet, bodies, deaths=0)
    check(undisturbed, bodies)
    disturbed = play(fleet, bodies, deaths=1)
    check(disturbed, bodies)
    assert [s["text"] for s in disturbed] == [s["text"] for s in undisturbed]
    assert fleet.metric("fairlead_resumed_total") >= 1
