"""The main job, in a few minutes on a laptop: `make demo`.

Starts two embedded engines behind one gateway, streams a chat answer, finds out what this machine
can hold, and replays a minute of a real trace at just that rate: once with the policies that most
fleets run, once with Fairlead's own. Everything is done with the commands a user has.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FLEET = Path(__file__).parent / "laptop.toml"
OUT = Path("out")
TRACE = "azure-conv-slice"
MIX = "interactive=0.6,task=0.2,batch=0.2"
MINUTE_S = 60
LOAD = 1.0
"""Share of the measured capacity at which the trace is replayed: the machine holds it, but only
just, and bursts go beyond."""
PROBE_STREAMS, PROBE_S = 16, 12
BASELINE = (
    "policy.admission=always",
    "policy.routing=round-robin",
    "policy.batching=fcfs",
)
START_S = 120


def main() -> int:
    OUT.mkdir(exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    print("Two engines of the built-in model, one gateway:")
    with fleet(port):
        chat(url, "What is Fairlead?")
        print(f"\nHow much can this machine hold? {PROBE_STREAMS} streams for {PROBE_S} s:")
        rate = capacity(url) * LOAD
    n = max(int(rate * MINUTE_S), 10)
    print(f"\nIt holds about {rate / LOAD:.1f} requests/s of this trace.")
    play = ["--rate", f"{rate:.3f}", "--limit", str(n), "--mix", MIX]
    print(f"\nA minute of a real trace ({TRACE}) at {rate:.1f} requests/s, with vLLM's rules:")
    with fleet(port, *BASELINE):
        replay(url, *play, "--label", "round-robin+fcfs", "--out", OUT / "round-robin.json")
    print("\nThe same minute with Fairlead's own policies:")
    page = OUT / "demo.html"
    with fleet(port):
        beside = ["--beside", OUT / "round-robin.json", "--html", page]
        replay(url, *play, "--label", "fairlead", "--out", OUT / "fairlead.json", *beside)
    print(f"\nPlots: {page.resolve()}")
    print("A fleet that stays: make serve")
    return 0


@contextmanager
def fleet(port: int, *changes: str) -> Iterator[None]:
    """`fairlead serve` until the end of the context."""
    command = ["serve", str(FLEET), "--set", f'gateway.listen="127.0.0.1:{port}"', "--quiet"]
    for change in changes:
        command += ["--set", change]
    shown = " ".join(["fairlead", "serve", str(FLEET), *(f"--set {one}" for one in changes)])
    print(f"$ {shown}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "fairlead", *command])
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Until both engines have reported."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit("the fleet did not start; its message is above")
        try:
            with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            text = ""
        if text.count("\nfairlead_instance_running{") >= 2:
            return
        time.sleep(0.2)
    raise SystemExit(f"the fleet was not ready after {START_S} s")


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
    """Requests a second that finish when there is always another one to send."""
    file = OUT / "capacity.json"
    closed = ["--concurrency", str(PROBE_STREAMS), "--duration", str(PROBE_S), "--quiet"]
    replay(url, *closed, "--mix", "batch=1", "--out", file)
    summary = json.loads(file.read_text())
    return float(summary["requests"]["finished"] / summary["duration_s"])


def replay(url: str, *options: str | Path) -> None:
    command = ["replay", TRACE, "--url", url, *map(str, options)]
    print(f"$ fairlead {' '.join(command)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "fairlead", *command], check=False).returncode
    if status != 0:
        raise SystemExit(f"the replay ended with status {status}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    # Two engines and a client share few cores: OpenMP must not spin while it waits.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
