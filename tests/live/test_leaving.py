"""A worker is told to stop, as systemd and Kubernetes do it: what it holds moves, and no stream
breaks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil
import pytest

from tests.live.conftest import LiveFleet
from tests.live.test_handoff import handed_off
from tests.live.test_kill_a_worker import check, nano_bodies, play
from tests.patience import PATIENCE_S

EMBEDDED = """
tick_s = 0.2

[[pool]]
model = "fairlead-nano"
engine = "embedded"
threads = 1
n_blocks = 512
instances = 2
"""


def stop_the_busiest(fleet: LiveFleet) -> psutil.Process:
    running = fleet.by_instance("fairlead_instance_running")
    busiest = max(fleet.workers(), key=lambda worker: running.get(fleet._name(worker), 0))
    os.kill(busiest.pid, signal.SIGTERM)
    return busiest


def test_what_a_stopped_worker_holds_is_handed_off(serve: Callable[[str], LiveFleet]) -> None:
    pytest.importorskip("torch", reason="needs fairlead[engine]")
    fleet = serve(EMBEDDED)
    fleet.wait_for_instances(2)
    bodies = nano_bodies(8, at_least=240)
    calm = play(fleet, bodies, deaths=0)
    check(calm, bodies)
    stopped: list[psutil.Process] = []
    fleet.kill_a_worker = lambda: stopped.append(stop_the_busiest(fleet))  # type: ignore[method-assign]
    streams = play(fleet, bodies, deaths=1)
    check(streams, bodies)
    assert [s["text"] for s in streams] == [s["text"] for s in calm]
    (worker,) = stopped
    worker.wait(PATIENCE_S)
    log = fleet.log.read_text()
    assert ": drained" in log
    assert handed_off(fleet) >= 2
    assert fleet.metric("fairlead_resumed_total") == 0, "nothing was computed again"
    check(play(fleet, bodies[:3], deaths=0), bodies[:3])
