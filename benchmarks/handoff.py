"""How long does a stream stand still when its sequence moves? Downtime against length.

    python benchmarks/handoff.py

Two workers of the embedded engine, as processes, on this machine; one stream at a time, moved from
one to the other once a second, by a policy that moves at random. Its client sees which instance
each token comes from. The pause is the gap before the first token of the new instance, less the
usual gap of the stream. Beside it stands what the same move would cost without its KV: the time to
the first token of a prompt as long as the sequence.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median

from rich.console import Console
from rich.table import Table

from fairlead.cli.served import served

FLEET = """
[gateway]
tick_s = 0.25

[[pool]]
model = "fairlead-nano"
engine = "embedded"
instances = 2
threads = 1
n_blocks = 2048
max_context = 4096

[policy]
rescheduling = "random-moves"

[policy.params.rescheduling]
period_s = 0.25
moves = 1

[limits]
max_moves = 1000
"""
LENGTHS = (64, 256, 1024, 2048, 3072)
OUTPUT = 600


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=4, help="of each length")
    args = parser.parse_args()
    print(f"parameters: {vars(args)}, {OUTPUT} output tokens, moved four times a second at most")
    table = Table("prompt", "moves", "usual gap", "pause p50", "pause max", "first token anew")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "two.toml"
        path.write_text(FLEET)
        with served(path) as url:
            list(tokens(url, 64, 0))  # Whatever is done once only.
            for length in LENGTHS:
                table.add_row(*row(url, length, args.streams))
    Console(width=80).print(table)


def row(url: str, length: int, n_streams: int) -> tuple[str, ...]:
    gaps: list[float] = []
    pauses: list[float] = []
    firsts: list[float] = []
    for stream in range(n_streams):
        sent_s = time.perf_counter()
        last_s, last_at = 0.0, ""
        for came_s, at in tokens(url, length, 1 + stream):
            if not last_at:
                firsts.append(came_s - sent_s)
            else:
                (gaps if at == last_at else pauses).append(came_s - last_s)
            last_s, last_at = came_s, at
    usual_s = median(gaps)
    more = [max(pause - usual_s, 0.0) for pause in pauses]
    cells = (usual_s, median(more), max(more), median(firsts)) if more else ()
    return str(length), str(len(pauses)), *(f"{1e3 * seconds:.1f} ms" for seconds in cells)


def tokens(url: str, length: int, seed: int) -> Iterator[tuple[float, str]]:
    """When each token of a stream came, and from where."""
    draw = Random(f"{length} {seed}")  # A prompt that nobody has in a cache.
    body = {
        "model": "fairlead-nano",
        "prompt": [draw.randrange(32, 126) for _ in range(length)],
        "max_tokens": OUTPUT,
        "ignore_eos": True,
        "stream": True,
        "fairlead": {"positions": True},
    }
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as lines:
        for line in lines:
            if line.startswith(b"data: {"):
                place = json.loads(line[6:]).get("fairlead")
                if place and place.get("n"):
                    yield time.perf_counter(), place["instance"]


if __name__ == "__main__":
    main()
