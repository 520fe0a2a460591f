"""A fleet is made smaller and larger under load, and no stream breaks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from tests.live.conftest import LiveFleet
from tests.live.test_kill_a_worker import check, nano_bodies, play

FOUR = """
tick_s = 0.2

[[pool]]
model = "fairlead-nano"
engine = "embedded"
threads = 1
n_blocks = 512
instances = 4
"""


def resize(fleet: LiveFleet, before: int, after: int) -> None:
    path = fleet.log.with_suffix(".toml")
    path.write_text(path.read_text().replace(f"instances = {before}", f"instances = {after}"))
    fleet.process.send_signal(signal.SIGHUP)


def test_from_four_to_two_and_to_three_without_a_broken_stream(
    serve: Callable[[str], LiveFleet],
) -> None:
    fleet = serve(FOUR)
    fleet.wait_for_instances(4)
    bodies = nano_bodies(12, at_least=300)
    calm = play(fleet, bodies, deaths=0)
    check(calm, bodies)
    smaller = threading.Timer(1.0, resize, (fleet, 4, 2))
    smaller.start()
    drained = play(fleet, bodies, deaths=0)
    smaller.join()
    check(drained, bodies)
    assert [s["text"] for s in drained] == [s["text"] for s in calm]
    fleet.wait_until(lambda: len(fleet.workers()) == 2, "two workers left")
    assert fleet.metric("fairlead_resumed_total") == 0
    resize(fleet, 2, 3)
    fleet.wait_for_instances(3)
    check(play(fleet, bodies[:3], deaths=0), bodies[:3])
