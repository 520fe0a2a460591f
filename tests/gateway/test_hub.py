"""The workers' port: who is let in, and when a worker is held to be gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.model import Leaving
from fairlead.worker import wire
from tests.gateway.conftest import new_gateway


def goodbye(worker):
    (message,) = [m for m in worker.said if isinstance(m, wire.Goodbye)]
    return message.why


async def test_a_worker_is_welcomed_by_name(gateway):
    worker = await FakeWorker().join(gateway.workers_address)
    (welcome,) = worker.said
    assert (welcome.instance, welcome.heartbeat_s) == ("fake", 0.5)
    assert list(gateway.driver._fleet.instances) == ["fake"]


async def test_a_worker_whose_cache_events_were_lost_is_asked_for_its_whole_cache(gateway):
    worker = await FakeWorker(heartbeats=False).join(gateway.workers_address)
    worker.send(wire.Heartbeat(msgspec.structs.replace(worker.report(), cache_events=3)))
    await worker.until(lambda: any(isinstance(m, wire.Ping) and m.whole_cache for m in worker.said))


async def test_a_worker_that_says_it_leaves_is_emptied_and_told_of_once(gateway, http):
    events = []
    gateway.driver.observers.append(lambda event, actions, now: events.append(event))
    first = await FakeWorker(heartbeats=False).join(gateway.workers_address)
    call = asyncio.create_task(
        http.post("/v1/completions", json={"model": SPEC.model, "prompt": "hi", "max_tokens": 2})
    )
    await first.until(lambda: first.submits)
    other = await FakeWorker(pace_s=0).join(gateway.workers_address)
    for _ in range(2):
        first.send(wire.Heartbeat(first.report(), leaving=True))
    await first.until(lambda: first.aborted)
    assert (await call).status_code == 200
    assert len(other.submits) == 1
    assert [event.instance for event in events if isinstance(event, Leaving)] == ["fake"]


async def test_two_of_one_name_get_two_names(gateway):
    first = await FakeWorker().join(gateway.workers_address)
    second = await FakeWorker().join(gateway.workers_address)
    assert [first.said[0].instance, second.said[0].instance] == ["fake", "fake-2"]


@pytest.mark.parametrize(
    ("worker", "part"),
    [
        (FakeWorker(token="guess"), "wrong token"),
        (FakeWorker(version=wire.VERSION + 1), f"speaks version {wire.VERSION + 1}"),
        (FakeWorker(version=0), f"speaks version {wire.VERSION} "),
        (FakeWorker(replace(SPEC, model="other")), "serves fake-model"),
        (FakeWorker(replace(SPEC, block_tokens=32)), "blocks of 16"),
        (FakeWorker(replace(SPEC, n_blocks=0)), "at least 1"),
        (FakeWorker(replace(SPEC, latency={})), "latency coefficients"),
    ],
)
async def test_who_does_not_fit_is_told_why_and_nothing_else_happens(
    gateway, by_hand, worker, part
):
    await worker.join(gateway.workers_address)
    await worker.until(lambda: worker.closed)
    assert part in goodbye(worker)
    assert list(gateway.hub.workers) == ["fake"]
    assert not by_hand.closed


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x05hello",
        b"\xff" * 100,
        wire.pack(wire.Heartbeat(FakeWorker().report())),
        wire.pack(wire.Goodbye("x" * wire.MAX_HELLO_BYTES)),
    ],
)
async def test_garbage_closes_its_connection_and_no_other(gateway, by_hand, garbage):
    host, _, port = gateway.workers_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(garbage)
    said = list(wire.Splitter().feed(await reader.read()))
    assert isinstance(wire.unpack_from_gateway(said[0]), wire.Goodbye)
    writer.close()
    assert list(gateway.hub.workers) == ["fake"]
    assert not by_hand.closed


async def test_garbage_from_a_welcomed_worker_takes_it_down(gateway, by_hand):
    by_hand.transport.write(b"\x00\x00\x00\x03\xc1\xc1\xc1")
    await by_hand.until(lambda: by_hand.closed)
    assert gateway.driver._fleet.instances == {}
    assert b"fairlead_instance_deaths_total 1.0" in gateway.metrics.exposition()


async def test_a_worker_that_dials_again_replaces_itself_and_drops_what_it_held(gateway):
    spec = replace(SPEC, incarnation="boot-1")
    first = await FakeWorker(spec).join(gateway.workers_address)
    second = await FakeWorker(spec, held=[("r1.0", 2)]).join(gateway.workers_address)
    await first.until(lambda: first.closed)
    await second.until(lambda: second.aborted)
    assert second.said[0].instance == "fake"
    assert second.aborted == {("r1.0", 2)}
    assert list(gateway.driver._fleet.instances) == ["fake"]


async def test_a_silent_worker_is_gone_and_a_speaking_one_is_not():
    gateway = new_gateway(heartbeat_s=0.05)
    await gateway.start()
    silent = await FakeWorker(replace(SPEC, id="silent"), heartbeats=False).join(
        gateway.workers_address
    )
    speaking = await FakeWorker(replace(SPEC, id="speaking")).join(gateway.workers_address)
    await silent.until(lambda: silent.closed)
    assert list(gateway.hub.workers) == ["speaking"]
    assert not speaking.closed
    await gateway.stop()


async def test_a_connection_that_says_nothing_is_closed():
    gateway = new_gateway(hello_timeout_s=0.05)
    await gateway.start()
    host, _, port = gateway.workers_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    said = list(wire.Splitter().feed(await reader.read()))
    assert "no Hello within 0.05 s" in wire.unpack_from_gateway(said[0]).why
    writer.close()
    await gateway.stop()
