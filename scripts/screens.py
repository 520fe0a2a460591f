"""Pictures of the dashboard, for people to look at: `python scripts/screens.py OUT`.

Starts a gateway with fake workers and some traffic, and takes the page in Chromium with few and
with many instances, wide and narrow, light and dark.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import uvloop

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.fake_worker import SPEC, FakeWorker  # noqa: E402
from tests.chromium import page  # noqa: E402
from tests.gateway.conftest import new_gateway  # noqa: E402

from fairlead.gateway import Gateway  # noqa: E402
from fairlead.model import InstanceId, Report, Role  # noqa: E402

SIZES = {"few": 3, "many": 500}
VIEWS = ((1200, False), (1200, True), (400, False), (400, True))


class BusyWorker(FakeWorker):
    """It tells of a load that it does not have."""

    busy = 0.5
    quiet = False
    """It says something just often enough not to be given up."""
    draw = Random(0)

    def _heartbeat(self, every_s: float) -> None:
        super()._heartbeat(4.0 if self.quiet else every_s)

    def report(self) -> Report:
        said = super().report()
        used = int(self.spec.n_blocks * min(self.busy * self.draw.uniform(0.8, 1.1), 1))
        return Report(
            said.instance,
            said.as_of_s,
            free_blocks=int((self.spec.n_blocks - used) * 0.4),
            cached_blocks=int((self.spec.n_blocks - used) * 0.6),
            running=said.running,
            waiting=int(12 * max(self.busy - 0.8, 0) * 5),
            queued_tokens=0,
            context_tokens=0,
            requests=said.requests,
            slowdown=1.0 if self.busy < 0.97 else 1.8,
        )


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sizes", default="few,many")
    parser.add_argument("--wait", type=float, default=20.0, help="seconds of traffic beforehand")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for size in options.sizes.split(","):
        await pictures(size, SIZES[size], options)


async def pictures(size: str, n: int, options: argparse.Namespace) -> None:
    gateway = new_gateway(api_keys={"k1": "alice", "k2": "bob"}, dashboard_tenants=("alice",))
    await gateway.start()
    await workers(gateway, n)
    asking = asyncio.create_task(traffic(gateway.url, 12 if n < 10 else 60))
    try:
        await asyncio.sleep(options.wait)
        await take(gateway, size, n, options.out)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await gateway.stop()


async def take(gateway: Gateway, size: str, n: int, out: Path) -> None:
    for width, dark in VIEWS:
        async with page() as tab:
            await tab.go(gateway.url + "/dashboard", width, 900, dark)
            await enter_key(tab)
            await tab.until(f"document.querySelectorAll('#map .cell').length === {n}")
            await asyncio.sleep(3)
            name = f"{size}-{width}-{'dark' if dark else 'light'}"
            await tab.screenshot(out / f"{name}.png")
            await tab.value(
                "document.querySelector('#requests tbody tr:last-child button').click()"
            )
            await tab.until("document.querySelector('.verdict')")
            await tab.screenshot(out / f"{name}-story.png", whole=False)
            print(name, tab.errors or "no errors", await fits(tab))


async def fits(tab: Any) -> str:
    root = "document.documentElement"
    wider = await tab.value(f"{root}.scrollWidth - {root}.clientWidth")
    return "fits" if wider <= 0 else f"{wider} pixels too wide"


async def enter_key(tab: Any) -> None:
    await tab.until("document.querySelector('#ask-key')?.open")
    await tab.value("document.querySelector('#key').value = 'k1'")
    await tab.value("document.querySelector('#ask-key button').click()")


async def workers(gateway: Gateway, n: int) -> None:
    draw = Random(1)
    for i in range(n):
        role = Role.MIXED if i % 5 else Role.PREFILL if i % 10 else Role.DECODE
        spec = replace(
            SPEC, id=InstanceId(f"i{i}"), incarnation=str(i), role=role if n > 9 else Role.MIXED
        )
        worker = BusyWorker(spec, pace_s=0.03)
        worker.busy = draw.betavariate(3, 2)
        worker.quiet = i == 7
        await worker.join(gateway.workers_address)


async def traffic(url: str, streams: int) -> None:
    draw = Random(2)

    async def client(session: aiohttp.ClientSession, key: str) -> None:
        while True:
            body = {
                "model": SPEC.model,
                "prompt": "a" * draw.randint(10, 300),
                "max_tokens": draw.randint(2, 120),
                "service_tier": draw.choice(["interactive", "interactive", "batch"]),
            }
            if draw.random() < 0.1:
                body["fairlead"] = {"ttft_s": 0.03}
            head = {"authorization": f"Bearer {key}"}
            async with session.post(f"{url}/v1/completions", json=body, headers=head) as answer:
                await answer.read()

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for i in range(streams):
            group.create_task(client(session, "k1" if i % 3 else "k2"))


if __name__ == "__main__":
    uvloop.run(main())
