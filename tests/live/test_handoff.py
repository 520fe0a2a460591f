"""Sequences move between real processes, with their KV, and no stream notices."""

from __future__ import annotations

from collections.abc import Callable

from tests.live.conftest import LiveFleet
from tests.live.test_kill_a_worker import check, emulated_bodies, play

RESTLESS = """
tick_s = 0.1

[policy]
rescheduling = "random-moves"

[policy.params.rescheduling]
period_s = 0.0
moves = 4
"""


def handed_off(fleet: LiveFleet) -> float:
    lines = fleet.get("/metrics")[1].splitlines()
    (line,) = (x for x in lines if x.startswith('fairlead_handoffs_total{outcome="done"}'))
    return float(line.rsplit(" ", 1)[1])


def test_emulated_streams_that_move_all_the_time_lose_nothing_when_workers_die(
    serve: Callable[[str], LiveFleet],
) -> None:
    fleet = serve(
        RESTLESS
        + """
        [[pool]]
        model = "llama-3.1-8b"
        engine = "emulated"
        hardware = "h100-llama-3.1-8b"
        instances = 3
        """
    )
    fleet.wait_for_instances(3)
    bodies = emulated_bodies(24, at_least=250)
    calm = play(fleet, bodies, deaths=0)
    check(calm, bodies)
    assert handed_off(fleet) >= 10
    deadly = play(fleet, bodies, deaths=2)
    check(deadly, bodies)
    assert [s["text"] for s in deadly] == [s["text"] for s in calm]
    fleet.wait_for_instances(3)


PLAIN = """
[[pool]]
name = "all"
model = "fairlead-nano"
engine = "embedded"
threads = 1
n_blocks = 512
"""
SPLIT = """
[[pool]]
name = "prompts"
role = "prefill"
model = "fairlead-nano"
engine = "embedded"
threads = 1
n_blocks = 512

[[pool]]
name = "answers"
role = "decode"
model = "fairlead-nano"
engine = "embedded"
threads = 1
n_blocks = 512
"""


def test_a_split_fleet_and_a_restless_one_say_what_one_instance_says(
    serve: Callable[[str], LiveFleet],
) -> None:
    """In float32, greedy and seeded, whatever batch a token is computed in."""
    bodies = [
        {
            "model": "fairlead-nano",
            "prompt": [65 + (7 * i + j) % 26 for j in range(20 + 30 * i)],
            "max_tokens": 60 + i,
            "min_tokens": 60 + i,
            "temperature": 0.8 * (i % 2),
            "seed": i,
            "ignore_eos": True,
        }
        for i in range(8)
    ]
    one = serve(PLAIN)
    one.wait_for_instances(1)
    expected = play(one, bodies, deaths=0)
    check(expected, bodies)
    one.stop()
    for text, at_least in ((SPLIT, len(bodies) // 2), (RESTLESS + PLAIN + "instances = 2\n", 2)):
        fleet = serve(text)
        fleet.wait_for_instances(2)
        found = play(fleet, bodies, deaths=0)
        check(found, bodies)
        assert [s["text"] for s in found] == [s["text"] for s in expected]
        assert handed_off(fleet) >= at_least
        fleet.stop()
