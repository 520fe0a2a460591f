"""A fleet on a real Ray cluster of several nodes on this machine: nodes and gateways are killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.live.conftest import LiveFleet
from tests.live.test_kill_a_worker import check, emulated_bodies, play
from tests.live.test_scaling import resize
from tests.patience import PATIENCE_S

pytest.importorskip("ray", reason="needs fairlead[ray]")

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
ACTOR = "ray::WorkerActor"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    cluster.add_node(**NODE)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def fleet(cluster: Any, serve: Callable[[str], LiveFleet]) -> LiveFleet:
    return serve(
        f"""
        tick_s = 0.2

        [ray]
        address = "{cluster.address}"

        [[pool]]
        provisioner = "ray"
        model = "llama-3.1-8b"
        engine = "emulated"
        hardware = "h100-llama-3.1-8b"
        speed = 0.5
        instances = 2
        """
    )


def up(fleet: LiveFleet, n: int) -> None:
    fleet.wait_until(lambda: fleet.reporting() == n, f"{n} instances up")


def says(fleet: LiveFleet, text: str) -> None:
    fleet.wait_until(lambda: text in fleet.log.read_text(), f"it says {text!r}")


def actors() -> list[int]:
    return [p.pid for p in psutil.process_iter(["name", "cmdline"]) if ACTOR in _title(p)]


def kill_node(cluster: Any, node: Any) -> None:
    """As if somebody pulled the plug: its daemon and all that runs on it, with -9."""
    (raylet,) = node.all_processes["raylet"]
    for process in [*psutil.Process(raylet.process.pid).children(recursive=True)]:
        process.kill()
    cluster.remove_node(node, allow_graceful=False)


def _title(process: psutil.Process) -> str:
    return " ".join([process.info["name"] or "", *(process.info["cmdline"] or ())])


def test_a_node_dies_under_streams_and_no_token_is_lost(cluster: Any, fleet: LiveFleet) -> None:
    up(fleet, 2)
    bodies = emulated_bodies(16, at_least=250)
    calm = play(fleet, bodies, deaths=0)
    check(calm, bodies)
    node = cluster.list_all_nodes()[-1]
    fleet.kill_a_worker = lambda: kill_node(cluster, node)  # type: ignore[method-assign]
    disturbed = play(fleet, bodies, deaths=1)
    check(disturbed, bodies)
    assert [s["text"] for s in disturbed] == [s["text"] for s in calm]
    assert fleet.metric("fairlead_resumed_total") >= 1
    # The living node is full: the fleet says so, and goes on with the one that it has.
    says(fleet, "no room: it takes 1 CPU, and 0 CPU of the Ray cluster's")
    check(play(fleet, bodies[:2], deaths=0), bodies[:2])
    cluster.add_node(**NODE)
    up(fleet, 2)


def test_more_than_the_cluster_holds_costs_nobody_a_place(fleet: LiveFleet) -> None:
    """Taken back before there was room for it, it is not paid for with instances that live."""
    up(fleet, 2)
    resize(fleet, 2, 4)
    says(fleet, "i2: no room: it takes 1 CPU")
    says(fleet, "i3: no room: it takes 1 CPU")
    resize(fleet, 4, 2)
    says(fleet, "2 instances from now on")
    body = {"model": "llama-3.1-8b", "prompt": [65] * 20, "max_tokens": 50, "ignore_eos": True}
    check(play(fleet, [body], deaths=0), [body])
    assert fleet.reporting() == 2
    resize(fleet, 2, 1)
    up(fleet, 1)
    resize(fleet, 1, 2)
    up(fleet, 2)
    assert "i2: emulated" not in fleet.log.read_text()


def test_actors_do_not_outlive_a_gateway_that_is_killed(fleet: LiveFleet) -> None:
    up(fleet, 2)
    assert len(actors()) == 2
    fleet.process.kill()
    fleet.process.wait()
    deadline = time.monotonic() + PATIENCE_S
    while actors() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not actors()
