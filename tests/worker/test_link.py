"""Dialling, being refused, losing the gateway and finding it again."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.model import ConfigError, ProtocolError, RequestId
from fairlead.worker import link
from fairlead.worker.link import Address
from fairlead.worker.wire import (
    MAX_HELLO_BYTES,
    VERSION,
    Frame,
    Goodbye,
    Heartbeat,
    Hello,
    Ping,
    Submit,
    Welcome,
    pack,
)
from tests.patience import PATIENCE_S
from tests.worker.fakes import (
    FakeGateway,
    a_gateway,
    a_request,
    a_spec,
    a_worker,
    running,
    tokens_of,
)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST_RETRY_S", 0.01)


async def outcome(task: asyncio.Task[str | None]) -> str | None:
    return await asyncio.wait_for(asyncio.shield(task), PATIENCE_S)


@pytest.mark.parametrize("why", ["wrong token", "it speaks version 1, this gateway 2"])
async def test_a_refusal_is_told_and_not_tried_again(why: str) -> None:
    async with a_gateway() as gateway, running(a_worker(gateway.address)) as task:
        line = await gateway.line()
        hello = await line.hear(Hello)
        assert (hello.token, hello.version) == ("secret", VERSION)
        line.say(Goodbye(why))
        with pytest.raises(ConfigError, match=f"refused this worker: {why}"):
            await outcome(task)


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"\x00\x00\x00\x03abc",
        pack(Ping(1.0)),
        pack(Hello(1, "", a_spec())),
    ],
)
async def test_what_is_no_gateway_is_named_so(garbage: bytes) -> None:
    async with a_gateway() as gateway, running(a_worker(gateway.address)) as task:
        line = await gateway.line()
        line.writer.write(garbage)
        with pytest.raises(ProtocolError, match=f"{gateway.address} is not a Fairlead gateway"):
            await outcome(task)


async def test_an_unknown_host_is_a_mistake() -> None:
    async with running(a_worker(Address("no-such-host.invalid", 8001))) as task:
        with pytest.raises(ConfigError, match="unknown host 'no-such-host"):
            await outcome(task)


async def test_a_gateway_that_comes_late_is_waited_for() -> None:
    async with a_gateway() as gateway:
        address = gateway.address
    told: list[str] = []
    async with running(a_worker(address, tell=told.append)):
        while not told:
            await asyncio.sleep(0.01)
        late = FakeGateway()
        server = await asyncio.start_server(late.accept, address.host, address.port)
        line = await late.line()
        await line.welcome()
        await line.hear(Heartbeat)
        server.close()
        line.hang_up()
    assert told[0].startswith(f"no gateway at {address}: nobody listens there")


@pytest.mark.parametrize("parting", ["hang up", "garbage"])
async def test_a_lost_gateway_is_found_again_and_what_was_inside_is_dropped(parting: str) -> None:
    """The same incarnation says what it still holds; the fleet has sent that elsewhere."""
    async with a_gateway() as gateway, running(a_worker(gateway.address)):
        line = await gateway.line()
        first = await line.welcome()
        line.say(Submit(a_request(max_tokens=2000), 1, []))
        await line.hear(Frame)
        if parting == "garbage":
            line.writer.write(b"\x00\x00\x00\x01\xc1")
        else:
            line.hang_up()

        again = await gateway.line()
        second = await again.welcome(gateway_time_s=5.0)
        assert second.spec.incarnation == first.spec.incarnation
        assert second.held == [("r1", 1)]
        beat = await again.hear(Heartbeat)
        assert beat.report.requests == ()
        assert 5.0 <= beat.report.as_of_s < 5.0 + PATIENCE_S

        again.say(Submit(a_request(max_tokens=9), 2, [65, 66]))
        frames = await again.hear_end_of("r1")
        assert {row.attempt for frame in frames for row in frame.rows} == {2}
        assert len(tokens_of(frames)) == 7
        again.hang_up()


async def test_a_goodbye_ends_a_welcomed_worker() -> None:
    async with a_gateway() as gateway, running(a_worker(gateway.address)) as task:
        line = await gateway.line()
        await line.welcome()
        line.say(Goodbye("another worker has this name"))
        assert await outcome(task) == "another worker has this name"


async def test_what_comes_with_the_welcome_in_one_breath_is_obeyed() -> None:
    async with a_gateway() as gateway, running(a_worker(gateway.address)):
        line = await gateway.line()
        line.say(Welcome("i7", 1000.0, 1.0), Submit(a_request(), 1, []))
        assert len(tokens_of(await line.hear_end_of("r1"))) == 16
        line.hang_up()


def test_hello_stays_below_what_a_stranger_may_say() -> None:
    held = [(RequestId(f"request-with-a-long-name-{i}"), 1) for i in range(10_000)]
    fitting = link._fitting(Hello(VERSION, "secret", a_spec(), "", held))
    assert 100 < len(fitting.held) < 10_000
    assert len(pack(fitting)) <= MAX_HELLO_BYTES


@pytest.mark.parametrize("text", ["", "8001", "host:", ":8001", "host:0", "host:99999", "host:x"])
def test_an_address_without_host_or_port_is_a_mistake(text: str) -> None:
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        Address.parse(text)


def test_an_ipv6_address_keeps_its_brackets() -> None:
    address = Address.parse("[::1]:8001")
    assert (address.host, address.port, str(address)) == ("::1", 8001, "[::1]:8001")
