"""What can be known about Ray without a cluster, and without Ray."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.main import main
from fairlead.model import ConfigError
from fairlead.worker.ray.orders import Start, read_order, write
from fairlead.worker.ray.reach import join_address
from fairlead.worker.ray.room import why_no_room
from fairlead.worker.ray.settings import Needs, RaySettings
from fairlead.worker.settings import WorkerSettings

POOL = '[[pool]]\nprovisioner = "ray"\nengine = "emulated"\nhardware = "h100-llama-3.1-8b"\n'


@pytest.mark.parametrize(
    ("given", "listening", "nodes", "address"),
    [
        ("gw:8001", "127.0.0.1:8001", ["10.0.0.1", "10.0.0.2"], "gw:8001"),
        ("", "0.0.0.0:8001", ["10.0.0.1", "10.0.0.2"], "10.0.0.1:8001"),
        ("", "[::]:8001", ["fd00::1"], "[fd00::1]:8001"),
        ("", "10.0.0.9:8001", ["10.0.0.1", "10.0.0.2"], "10.0.0.9:8001"),
        ("", "127.0.0.1:8001", ["10.0.0.1", "10.0.0.1"], "127.0.0.1:8001"),
    ],
)
def test_workers_are_told_an_address_that_they_reach(
    given: str, listening: str, nodes: list[str], address: str
) -> None:
    assert join_address(given, listening, nodes) == address


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_port_that_other_nodes_cannot_reach_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=r"10.0.0.2 and other nodes .* gateway.workers_listen"):
        join_address("", f"{host}:8001", ["10.0.0.1", "10.0.0.2"])


def test_why_there_is_no_room_tells_too_large_from_taken() -> None:
    nodes = [{"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}]
    large = why_no_room({"CPU": 4, "GPU": 1}, nodes, {"CPU": 6})
    assert large == (
        "it takes 4 CPU, 1 GPU, and no node of the Ray cluster is so large (of 2, the most on "
        "one: 4 CPU, 1 GPU)"
    )
    taken = why_no_room({"CPU": 2}, nodes, {"CPU": 1.5})
    assert taken == "it takes 2 CPU, and 1.5 CPU of the Ray cluster's 2 nodes are free"


def test_what_an_instance_takes_nothing_of_is_left_out() -> None:
    assert Needs(0.5, 0, {"a100": 1}).bundle() == {"CPU": 0.5, "a100": 1}


def test_an_order_is_one_line_and_comes_back_equal() -> None:
    settings = WorkerSettings(join="h:1", model="m", batching_params={"a": [1]}, n_blocks=7)
    order = Start(3, settings, "secret\n", 1.0, 0.0, {"a100": 1.0})
    assert write(order).count(b"\n") == 1
    assert read_order(write(order)) == order


def test_an_address_must_be_one() -> None:
    with pytest.raises(ValueError, match="address must be HOST:PORT or auto, got 'ray://x'"):
        RaySettings(address="ray://x")


def told(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> str:
    path = tmp_path / "fleet.toml"
    path.write_text(f'[gateway]\nlisten = "127.0.0.1:0"\n{text}')
    assert main(["serve", str(path)]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_without_ray_the_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    absent: Any = lambda name, *rest: None if name == "ray" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    assert "pip install 'fairlead[ray]'" in told(tmp_path, capsys, POOL)


def test_a_gateway_imports_no_ray() -> None:
    """It would take signals over, and end the process a minute after its cluster."""
    look = "import fairlead.cli.serve, sys; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[pool]]\nprovisioner = "rya"\n', "did you mean 'ray'"),
        ("[[pool]]\nnum_gpus = 1\n", 'num_gpus needs provisioner = "ray"'),
        ('[[pool]]\ndeployment = "x"\n', 'deployment needs provisioner = "kubernetes"'),
        (POOL + "num_cpus = -1\n", "num_cpus must be at least 0, got -1"),
        (POOL + "resources = { a100 = true }\n", "resources.a100 must be a number"),
        ('[ray]\naddress = "10.0.0.1:6379"\n', "no pool has provisioner"),
        ('[ray]\nadress = "10.0.0.1:6379"\n' + POOL, "did you mean 'address'"),
        ('[ray]\naddress = "here"\n' + POOL, "address must be HOST:PORT or auto"),
        ('[kubernetes]\napi = "h:1"\n[[pool]]\nprovisioner = "kubernetes"\n', "must begin with"),
        ('[[pool]]\nprovisioner = "kubernetes"\n', "cannot read kubernetes.token_file"),
    ],
)
def test_a_mistake_in_the_fleet_file_is_named(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in told(tmp_path, capsys, text)


def test_a_cluster_that_is_not_there_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="needs fairlead[ray]")
    said = told(tmp_path, capsys, '[ray]\naddress = "127.0.0.1:1"\n' + POOL)
    assert "error: no Ray cluster at 127.0.0.1:1: Connection refused; start one with" in said
