"""`fairlead batches`: offline batches of a gateway, from a shell."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fairlead.client.batches import ENDED, BatchClient, NoAnswerError
from fairlead.client.progress import Bar
from fairlead.model import ConfigError

URL = "http://127.0.0.1:8000"
LOOK_S = 0.5
PATIENCE_S = 300.0
"""While we wait for a batch, its gateway may be away for so long: it goes on when it is back."""
EXAMPLE = """\
examples:
  fairlead batches submit lines.jsonl
  fairlead batches submit lines.jsonl --wait --out answers.jsonl
  fairlead batches submit lines.jsonl --endpoint /v1/embeddings --window 7d
  fairlead batches list
  fairlead batches show batch_5a8df0b5e00f12a6828d84d0 --wait
  fairlead batches cancel batch_5a8df0b5e00f12a6828d84d0
  fairlead batches download batch_5a8df0b5e00f12a6828d84d0 --out answers.jsonl

A line is {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}.
Works with any server that has OpenAI's /v1/files and /v1/batches.
--out FILE takes the answers; lines that failed go to FILE.errors.

exit status: 0 done; 1 it ended, and not all lines have an answer; 2 could not run.
"""

Run = Callable[[argparse.Namespace, BatchClient], int]


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "batches",
        help="offline batches: submit, watch, cancel, download",
        description="Submits files of requests that run when nobody else needs the fleet.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, help: str, run: Run) -> Any:
        action = actions.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        action.add_argument("--url", metavar="URL", default=URL, help=f"default {URL}")
        action.add_argument(
            "--api-key", metavar="KEY", help="default: the environment's OPENAI_API_KEY, if any"
        )
        action.add_argument("--json", action="store_true", help="as JSON")
        action.set_defaults(action_run=run)
        return action

    submit = add("submit", "upload a file and make it a batch", _submit)
    submit.add_argument("file", metavar="FILE.jsonl", type=Path)
    submit.add_argument("--endpoint", metavar="PATH", help="default: what the first line says")
    submit.add_argument(
        "--window", metavar="TIME", default="24h", help="such as 90m, 24h or 7d; default 24h"
    )
    submit.add_argument("--meta", metavar="KEY=VALUE", action="append", default=[])
    submit.add_argument("--wait", action="store_true", help="until it has ended")
    submit.add_argument("--out", metavar="FILE", type=Path, help="download it then; implies --wait")
    add("list", "list batches, newest first", _list).add_argument(
        "--limit", metavar="N", type=int, default=20, help="default 20"
    )
    show = add("show", "show how far a batch is", _show)
    show.add_argument("id", metavar="ID")
    show.add_argument("--wait", action="store_true", help="until it has ended")
    add("cancel", "cancel a batch; what is done stays", _cancel).add_argument("id", metavar="ID")
    download = add("download", "download a batch's answers, and the lines that failed", _download)
    download.add_argument("id", metavar="ID")
    download.add_argument("--out", metavar="FILE", type=Path, help="default ID.jsonl")


def run(args: argparse.Namespace) -> int:
    client = BatchClient(args.url, args.api_key or os.environ.get("OPENAI_API_KEY"))
    try:
        status: int = args.action_run(args, client)
    except NoAnswerError as error:
        raise ConfigError(
            f"{error}; start a fleet with `fairlead serve FLEET.toml`, or name its --url."
        ) from error
    return status


# ---------------------------------------------------------------- actions


def _submit(args: argparse.Namespace, client: BatchClient) -> int:
    endpoint = args.endpoint or _endpoint_of(args.file)
    metadata = dict(_pair(word) for word in args.meta)
    with Bar(Console(stderr=True), _size(args.file), args.json) as bar:
        file = client.upload(args.file, lambda n: bar.moved(n, "uploading"))
    batch = client.create(file["id"], endpoint, args.window, metadata)
    if not (args.wait or args.out):
        _print_one(batch, args.json)
        return 0
    if not args.json:
        print(batch["id"], file=sys.stderr)
    batch = _wait(client, batch["id"], args.json)
    if args.out is not None:
        _fetch(client, batch, args.out, args.json)
    _print_one(batch, args.json)
    return _status(batch)


def _list(args: argparse.Namespace, client: BatchClient) -> int:
    if args.limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {args.limit}")
    rows = list(client.batches(args.limit))
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        print("no batches")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "status"):
        table.add_column(name, overflow="fold")
    for name in ("done", "failed", "lines"):
        table.add_column(name, justify="right")
    table.add_column("age", justify="right", no_wrap=True)
    for row in rows:
        counts = row["request_counts"]
        shown = [f"{counts[name]:,}" for name in ("completed", "failed", "total")]
        table.add_row(row["id"], row["status"], *shown, _age(row["created_at"]))
    Console(highlight=False, markup=False).print(table)
    return 0


def _show(args: argparse.Namespace, client: BatchClient) -> int:
    batch = _wait(client, args.id, args.json) if args.wait else client.batch(args.id)
    _print_one(batch, args.json)
    return _status(batch) if args.wait else 0


def _cancel(args: argparse.Namespace, client: BatchClient) -> int:
    _print_one(client.cancel(args.id), args.json)
    return 0


def _download(args: argparse.Namespace, client: BatchClient) -> int:
    batch = client.batch(args.id)
    if batch["status"] not in ENDED:
        raise ConfigError(
            f"{args.id} is {batch['status']}; wait for its end with `fairlead batches show "
            f"{args.id} --wait`"
        )
    _fetch(client, batch, args.out or Path(f"{args.id}.jsonl"), args.json)
    if args.json:
        print(json.dumps(batch))
    return _status(batch)


# ---------------------------------------------------------------- parts


def _wait(client: BatchClient, id: str, quiet: bool) -> dict[str, Any]:
    heard_s = time.monotonic()
    with Bar(Console(stderr=True), None, quiet) as bar:
        while True:
            try:
                batch = client.batch(id)
                heard_s = time.monotonic()
            except NoAnswerError:
                if time.monotonic() - heard_s > PATIENCE_S:
                    raise
                time.sleep(LOOK_S)
                continue
            counts = batch["request_counts"]
            done = counts["completed"] + counts["failed"]
            bar.lines(done, counts["total"], batch["status"].replace("_", " "))
            if batch["status"] in ENDED:
                return batch
            time.sleep(LOOK_S)


def _fetch(client: BatchClient, batch: dict[str, Any], out: Path, quiet: bool) -> None:
    for key, path in (("output_file_id", out), ("error_file_id", Path(f"{out}.errors"))):
        if (id := batch.get(key)) is None:
            continue
        part = path.with_name(path.name + ".part")
        try:
            with (
                part.open("wb") as file,
                Bar(Console(stderr=True), client.size(id), quiet) as bar,
            ):
                client.download(id, file, lambda n, bar=bar: bar.moved(n, "downloading"))  # type: ignore[misc]
            part.replace(path)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from None
        finally:
            part.unlink(missing_ok=True)
        if not quiet:
            print(f"{path}: {'answers' if path == out else 'lines that failed'}", file=sys.stderr)


def _status(batch: dict[str, Any]) -> int:
    whole = batch["status"] == "completed" and not batch["request_counts"]["failed"]
    return 0 if whole else 1


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _endpoint_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            line = json.loads(file.readline(1 << 24) or b"{}")
            return str(line["url"])
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(
            f"the first line of {path} does not say its url; name the batch's --endpoint, such as "
            "/v1/chat/completions"
        ) from None


def _pair(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not sign:
        raise ConfigError(f"--meta {word!r} is not KEY=VALUE")
    return key, value


def _print_one(batch: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(batch, indent=2))
        return
    counts = batch["request_counts"]
    table = Table(box=None, pad_edge=False, show_header=False)
    rows = [
        ("id", batch["id"]),
        ("status", batch["status"]),
        ("lines", f"{counts['completed']:,} done, {counts['failed']:,} failed"),
        ("", f"of {counts['total']:,}" if counts["total"] else "not counted yet"),
        ("created", _time(batch["created_at"])),
        ("expires", _time(batch["expires_at"])),
        ("output", batch["output_file_id"] or "-"),
        ("errors", batch["error_file_id"] or "-"),
    ]
    for problem in (batch.get("errors") or {}).get("data", []):
        line = f"line {problem['line']}: " if problem.get("line") else ""
        rows.append(("problem", f"{line}{problem['message']}"))
    for name, value in rows:
        table.add_row(name, value)
    Console(highlight=False, markup=False).print(table)


def _age(created_s: float) -> str:
    passed_s = max(time.time() - created_s, 0.0)
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if passed_s >= unit_s:
            return f"{passed_s // unit_s:.0f}{unit}"
    return f"{passed_s:.0f}s"


def _time(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
