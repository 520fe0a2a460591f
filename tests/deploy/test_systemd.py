"""The unit files, by systemd's own judgement and by our commands'."""

from __future__ import annotations

import argparse
import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from fairlead.cli import serve, worker
from fairlead.cli.serve_settings import ServeSettings

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
PROGRAM = "/opt/fairlead/bin/fairlead"


def service(name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name)
    return parser["Service"]


@pytest.mark.parametrize("unit", ["fairlead.service", "fairlead-worker@.service"])
def test_systemd_takes_the_unit(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    name = unit.replace("@.", "@0.")
    text = (UNITS / unit).read_text().replace(PROGRAM, "/bin/true")
    (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    about_us = [line for line in done.stderr.splitlines() if "fairlead" in line]
    assert done.returncode == 0, done.stderr
    assert not about_us


def test_the_lines_that_start_something_are_commands_of_ours() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    serve.add_parser(commands)
    worker.add_parser(commands)
    program, *words = service("fairlead.service")["ExecStart"].split()
    assert program == PROGRAM
    assert str(parser.parse_args(words).fleet) == "/etc/fairlead/fleet.toml"
    program, *words = service("fairlead-worker@.service")["ExecStart"].split()
    assert (program, words.pop()) == (PROGRAM, "$FAIRLEAD_WORKER")
    args = parser.parse_args([*words, "--join=h:1", "--model=m"])
    assert str(args.token_file) == "/etc/fairlead/token"


def test_stopping_leaves_time_to_drain() -> None:
    gateway = service("fairlead.service")
    assert int(gateway["TimeoutStopSec"]) >= ServeSettings().drain_s + 10
    assert gateway["KillMode"] == "mixed", "workers are the gateway's to drain"
