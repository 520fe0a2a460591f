"""A gateway scales a Deployment whose pods are real workers; only the cluster itself is fake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fake_kubernetes import TOKEN, FakeKubernetes, serving
from tests.live.conftest import LiveFleet, free_port
from tests.live.test_kill_a_worker import check, emulated_bodies, play
from tests.live.test_scaling import resize

MODEL = "llama-3.1-8b"
BODIES = emulated_bodies(6, at_least=150)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeKubernetes]:
    """Its pods run what `deploy/kubernetes/workers.yaml` runs, with an emulated engine."""
    join = f"127.0.0.1:{free_port()}"
    (tmp_path / "workers-token").write_text("of the fleet")
    command = [sys.executable, "-m", "fairlead", "worker", f"--join={join}", "--pool=chat"]
    command += [f"--token-file={tmp_path / 'workers-token'}", f"--model={MODEL}"]
    command += ["--engine=emulated", "--hardware=h100-llama-3.1-8b", "--speed=0.4"]

    def run(pod: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{pod}.log").open("ab") as log:
            return subprocess.Popen([*command, f"--name={pod}"], stderr=log)

    with serving(FakeKubernetes(run)) as fake:
        fake.join = join
        yield fake


@pytest.fixture
def fleet(
    cluster: FakeKubernetes, serve: Callable[[str], LiveFleet], tmp_path: Path
) -> Callable[[], LiveFleet]:
    """Starts a gateway; a second one is the first, come back."""
    (tmp_path / "account").write_text(TOKEN)
    return lambda: serve(
        f"""
        workers_listen = "{cluster.join}"
        token_file = "{tmp_path / "workers-token"}"
        tick_s = 0.2

        [kubernetes]
        api = "{cluster.url}"
        namespace = "ai"
        token_file = "{tmp_path / "account"}"
        check_s = 0.2

        [[pool]]
        name = "chat"
        provisioner = "kubernetes"
        model = "{MODEL}"
        engine = "emulated"
        hardware = "h100-llama-3.1-8b"
        instances = 2
        """
    )


def up(fleet: LiveFleet, n: int) -> None:
    fleet.wait_until(lambda: fleet.reporting() == n, f"{n} instances up")


def busiest(fleet: LiveFleet, cluster: FakeKubernetes) -> int:
    running = fleet.by_instance("fairlead_instance_running")
    pod = max(cluster.pods, key=lambda pod: running.get(pod.name, 0))
    assert pod.process is not None
    return pod.process.pid


def test_pods_come_drain_die_and_go_without_a_lost_token(
    cluster: FakeKubernetes, fleet: Callable[[], LiveFleet]
) -> None:
    first = fleet()
    up(first, 2)
    calm = play(first, BODIES, deaths=0)
    check(calm, BODIES)

    # kubectl drain: SIGTERM. The kubelet of this cluster starts the container again.
    first.kill_a_worker = lambda: os.kill(busiest(first, cluster), signal.SIGTERM)  # type: ignore[method-assign]
    drained = play(first, BODIES, deaths=1)
    check(drained, BODIES)
    assert [s["text"] for s in drained] == [s["text"] for s in calm]
    assert first.metric("fairlead_resumed_total") == 0, "it finished what was inside"

    # A node dies.
    up(first, 2)
    first.kill_a_worker = lambda: os.kill(busiest(first, cluster), signal.SIGKILL)  # type: ignore[method-assign]
    disturbed = play(first, BODIES, deaths=1)
    check(disturbed, BODIES)
    assert [s["text"] for s in disturbed] == [s["text"] for s in calm]
    assert first.metric("fairlead_resumed_total") >= 1

    # One is too many: the gateway empties and removes the pod that it chose.
    up(first, 2)
    smaller = threading.Timer(0.5, resize, (first, 2, 1))
    smaller.start()
    shrunk = play(first, BODIES, deaths=0)
    smaller.join()
    check(shrunk, BODIES)
    up(first, 1)
    first.wait_until(lambda: len(cluster.pods) == 1 and not cluster.leaving, "a pod gone")
    assert cluster.replicas["chat"] == 1

    # Pods outlive the gateway, and join the next one.
    (pod,) = cluster.pods
    first.process.kill()
    second = fleet()
    up(second, 2)
    assert pod in cluster.pods
    check(play(second, BODIES[:2], deaths=0), BODIES[:2])
    assert sum(pod.n_starts for pod in cluster.pods) <= 4
