"""The main job, in a few minutes on a laptop: `make demo`.

Starts two embedded engines behind one gateway, streams a chat answer, finds out what this machine
can hold, and replays a minute of a real trace at just that rate: once with the policies that most
fleets run, once with Fairlead's own. Everything is done with the commands a user has.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import fmean

from fairlead.cli.served import served
from fairlead.model import FairleadError
from fairlead.workload.trace import open_trace

FLEET = Path(__file__).parent / "laptop.toml"
OUT = Path("out")
TRACE = "azure-conv-slice"
MIX = "interactive=0.6,task=0.2,batch=0.2"
MINUTE_S = 60
LOAD = 1.0
"""Share of the measured capacity at which the trace is replayed: the machine holds it, but only
just, and bursts go beyond."""
PROBE_STREAMS, PROBE_S = 32, 12
TYPICAL = 150
"""Requests of the trace whose answers are looked at: about those that are played."""
BASELINE = (
    "policy.admission=always",
    "policy.routing=round-robin",
    "policy.batching=fcfs",
    "policy.rescheduling=none",
)


def main() -> int:
    OUT.mkdir(exist_ok=True)
    print("Two engines of the built-in model, one gateway:")
    with fleet() as url:
        chat(url, "What is Fairlead?")
        print(f"\nHow much can this machine hold? {PROBE_STREAMS} streams for {PROBE_S} s:")
        rate = capacity(url) * LOAD
    n = max(int(rate * MINUTE_S), 10)
    print(f"\nIt holds about {rate / LOAD:.1f} requests/s of this trace.")
    play = ["--rate", f"{rate:.3f}", "--limit", str(n), "--mix", MIX]
    print(f"\nA minute of a real trace ({TRACE}) at {rate:.1f} requests/s, with vLLM's rules:")
    with fleet(*BASELINE) as url:
        replay(url, *play, "--label", "round-robin+fcfs", "--out", OUT / "round-robin.json")
    print("\nThe same minute with Fairlead's own policies:")
    page = OUT / "demo.html"
    with fleet() as url:
        beside = ["--beside", OUT / "round-robin.json", "--html", page]
        replay(url, *play, "--label", "fairlead", "--out", OUT / "fairlead.json", *beside)
    print(f"\nPlots: {page.resolve()}")
    print("A fleet that stays: make serve")
    return 0


@contextmanager
def fleet(*changes: str) -> Iterator[str]:
    """`fairlead serve` until the end of the context; its address."""
    shown = " ".join(["fairlead", "serve", str(FLEET), *(f"--set {one}" for one in changes)])
    print(f"$ {shown}", flush=True)
    with served(FLEET, changes) as url:
        yield url


def chat(url: str, question: str) -> None:
    """Streams one answer to the terminal."""
    print(f"\n> {question}\n", flush=True)
    body = {
        "model": "fairlead-nano",
        "stream": True,
        "temperature": 0,
        "max_tokens": 300,
        "messages": [{"role": "user", "content": question}],
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as lines:
        for line in lines:
            if line.startswith(b"data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                print(delta.get("content") or "", end="", flush=True)
    print()


def capacity(url: str) -> float:
    """Requests a second that it can answer, by the tokens that it makes when there is always
    another to send: those that end within the probe have shorter answers than most."""
    file = OUT / "capacity.json"
    closed = ["--concurrency", str(PROBE_STREAMS), "--duration", str(PROBE_S), "--quiet"]
    replay(url, *closed, "--mix", "batch=1", "--out", file)
    summary = json.loads(file.read_text())
    answers = [row.output_tokens for row in islice(open_trace(TRACE).rows(), TYPICAL)]
    return float(summary["output_tokens_per_s"] / fmean(answers))


def replay(url: str, *options: str | Path) -> None:
    command = ["replay", TRACE, "--url", url, *map(str, options)]
    print(f"$ fairlead {' '.join(command)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "fairlead", *command], check=False).returncode
    if status != 0:
        raise SystemExit(f"the replay ended with status {status}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FairleadError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
