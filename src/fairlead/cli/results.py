"""Where the figures of a run go: the terminal, a file of JSON, a page of plots, beside those of
earlier runs. Common to `replay` and `simulate`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from fairlead.client.axes import require_matplotlib
from fairlead.client.figures import Run
from fairlead.client.out_file import OutFile, WriteError
from fairlead.client.page import page
from fairlead.client.table import WIDTH, print_table
from fairlead.model import ConfigError
from fairlead.workload.summary import Summary

STDOUT = "-"


def add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", metavar="FILE", help="write the Summary as JSON; - is stdout")
    group.add_argument("--html", metavar="FILE", help="write a page of plots")
    group.add_argument(
        "--beside",
        metavar="FILE",
        action="append",
        default=[],
        help="an earlier Summary to show beside this one; may be repeated",
    )
    group.add_argument("--label", metavar="TEXT", help="what to call this run")
    group.add_argument(
        "--warmup", metavar="S", type=float, default=0.0, help="leave out the first S seconds"
    )
    group.add_argument("--quiet", action="store_true", help="no table and no progress")


class Results:
    """The places of a run's results, made sure of before it begins."""

    def __init__(
        self,
        args: argparse.Namespace,
        complaints: Console,
        title: str = "Replay",
        earlier: Sequence[Run] = (),
    ) -> None:
        """`earlier` are runs to show beside this one, with those of `--beside`. Raises
        `ConfigError` where something cannot be read, written or drawn."""
        self._args = args
        self._complaints = complaints
        self._title = title
        self._files: list[OutFile] = []
        self._earlier = [*earlier, *(read_run(Path(path)) for path in args.beside)]
        if args.html:
            require_matplotlib()
        try:
            self._out = self._file(args.out)
            self._html = self._file(args.html)
        except ConfigError:
            self.give_up()
            raise

    def show(self, label: str, summary: Summary) -> bool:
        """Prints and writes the run's figures; whether all could be written."""
        runs = [*self._earlier, (label, summary.to_json())]
        if self._args.out == STDOUT:
            print(as_json(runs[-1][1]))
        if not self._args.quiet:
            print_table(runs, Console(width=WIDTH, stderr=self._args.out == STDOUT))
        return self._write(runs)

    def give_up(self) -> None:
        """Frees the places of what was not written."""
        for file in self._files:
            file.give_up()

    def _file(self, path: str | None) -> OutFile | None:
        if not path or path == STDOUT:
            return None
        self._files.append(OutFile(Path(path)))
        return self._files[-1]

    def _write(self, runs: Sequence[Run]) -> bool:
        """What cannot be written is printed, so that nothing is lost."""
        ok = True
        try:
            if self._out is not None:
                self._out.write(as_json(runs[-1][1]))
        except WriteError as error:
            ok = False
            self._complaints.print(f"error: {error} The Summary is printed instead.")
            print(as_json(runs[-1][1]))
        try:
            if self._html is not None:
                self._html.write(page(runs, command_line(), self._title))
        except WriteError as error:
            ok = False
            self._complaints.print(f"error: {error}")
        return ok


def read_run(path: Path) -> Run:
    """An earlier Summary. Raises `ConfigError` where the file holds none."""
    try:
        summary = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    keys = ("requests", "attainment", "ttft_s", "classes", "fleet", "policy")
    if not isinstance(summary, dict) or any(key not in summary for key in keys):
        raise ConfigError(f"{path} holds no Summary; expected what `--out` of a run wrote.")
    return str(summary.get("label") or path.stem), summary


def as_json(value: Any) -> str:
    """Indented; numbers that still are numpy's become plain ones."""
    data = msgspec.json.encode(value, enc_hook=lambda number: number.item())
    return msgspec.json.format(data, indent=1).decode() + "\n"


def command_line() -> str:
    """What was typed, without its secret."""
    shown: list[str] = []
    for word in sys.argv[1:]:
        secret = shown and shown[-1] == "--api-key"
        given = word.startswith("--api-key=")
        shown.append("..." if secret else "--api-key=..." if given else word)
    return "fairlead " + shlex.join(shown)
