"""How long does a stream stand still when its sequence moves? Downtime against length.

    python benchmarks/handoff.py

Two workers of the embedded engine, as processes, on this machine; one stream at a time, moved from
one to the other several times a second by a policy that moves at random. The gateway's event log
tells when the last token came from the old instance and the first from the new one; the pause is
what that gap has above the usual one. Beside it stands what the same move would cost without its
KV: the time to the first token of a prompt as long as the sequence.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import urllib.request
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median

from rich.console import Console
from rich.progress import track
from rich.table import Table

from fairlead.cli.served import served
from fairlead.observe.read_log import read_log

FLEET = """
[gateway]
tick_s = 0.25
event_log = "LOG"

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
    heard: dict[int, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "two.toml", Path(folder) / "two.log"
        path.write_text(FLEET.replace("LOG", str(log)))
        with served(path) as url:
            tokens(url, 63, 0)  # Whatever is done once only.
            for length in track(LENGTHS, "streaming", transient=True):
                heard[length] = [tokens(url, length, 1 + n) for n in range(args.streams)]
        gaps = gaps_at_moves(log)
    table = Table("prompt", "moves", "usual gap", "pause p50", "pause p90", "max", "anew, p50")
    for length, streams in heard.items():
        table.add_row(str(length), str(len(gaps[length])), *cells(streams, gaps[length]))
    Console(width=80).print(table)


def cells(streams: list[list[float]], moves_s: list[float]) -> list[str]:
    usual_s = median(after - at for times in streams for at, after in pairwise(times[1:]))
    pauses = sorted(max(gap_s - usual_s, 0.0) for gap_s in moves_s)
    anew_s = median(times[1] - times[0] for times in streams)
    told = [usual_s, median(pauses), pauses[int(0.9 * len(pauses))], pauses[-1], anew_s]
    return [f"{1e3 * seconds:.1f} ms" for seconds in told]


def gaps_at_moves(log: Path) -> dict[int, list[float]]:
    """From the last token of the old instance to the first of the new one, by prompt length."""
    length: dict[str, int] = {}
    gaps: dict[int, list[float]] = {}
    for line in read_log(log):
        if line["what"] == "arrived":
            length[line["request"]] = line["prompt_tokens"]
        elif line["what"] == "first-token" and "since_s" in line:
            gaps.setdefault(length[line["request"]], []).append(line["t"] - line["since_s"])
    return gaps


def tokens(url: str, length: int, seed: int) -> list[float]:
    """When the request was sent, and when each of its tokens came."""
    draw = Random(f"{length} {seed}")  # A prompt that nobody has in a cache.
    body = {
        "model": "fairlead-nano",
        "prompt": [draw.randrange(32, 126) for _ in range(length)],
        "max_tokens": OUTPUT,
        "ignore_eos": True,
        "stream": True,
    }
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    times = [time.perf_counter()]
    with urllib.request.urlopen(request, timeout=120) as lines:
        for line in lines:
            if line.startswith(b"data: {"):
                times.append(time.perf_counter())
    return times


if __name__ == "__main__":
    main()
