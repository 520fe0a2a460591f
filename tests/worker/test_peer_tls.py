"""Hand-offs over TLS: nobody without the right certificate takes part, or reads along."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trustme

from fairlead.instance import handoff as protocol
from fairlead.model import ConfigError
from fairlead.worker import peers, shared, tls, wire
from fairlead.worker.link import Address
from fairlead.worker.peer_tls import peer_tls_of
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.wire import Abort, Frame, Move, Moved, Submit
from tests.worker.fakes import a_gateway, running
from tests.worker.test_handoff import (
    COPY_BYTES,
    a_kv_worker,
    a_long_request,
    all_or_nothing,
    check,
    comes_home,
    lines_of,
    now_s,
)

PLAIN = WorkerSettings("127.0.0.1:1", "m", "emulated", "h100-llama-3.1-8b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two workers of one authority, and a stranger of another."""
    folder: Path = tmp_path_factory.mktemp("peers")
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    theirs.cert_pem.write_to_path(folder / "strangers.pem")
    for name, authority in (("source", ours), ("target", ours), ("stranger", theirs)):
        paper = authority.issue_cert(f"{name}.example")
        paper.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    return folder


def settings(folder, name, ca="ca"):
    return replace(PLAIN, tls_ca=str(folder / f"{ca}.pem"), tls_cert=str(folder / f"{name}.pem"))


def papers(folder, name):
    return peer_tls_of(settings(folder, name))


@asynccontextmanager
async def two(source_tls, target_tls):
    """Lines of a source in which a sequence runs, and of a target; and what the target is."""
    async with (
        a_gateway() as gateway,
        running(a_kv_worker(gateway.address, "source", source_tls)),
        running(a_kv_worker(gateway.address, "target", target_tls)),
    ):
        source, target, hello = await lines_of(gateway)
        source.say(Submit(a_long_request(), 1, []))
        await source.hear(Frame)
        yield source, target, hello.spec
        for line in (source, target):
            line.hang_up()


async def stays_whole(source):
    """The hand-off failed, and the sequence goes on where it is."""
    assert not (await source.hear(Moved)).done
    for _ in range(3):
        await source.hear(Frame)
    check([message for message in source.heard if isinstance(message, Frame)])
    source.say(Abort("r1", 1))
    await comes_home(source)


async def test_a_sequence_moves_with_its_kv_through_tls(folder, monkeypatch):
    monkeypatch.setattr(protocol, "COPY_BYTES", COPY_BYTES)
    monkeypatch.setattr(shared, "LINUX", False)  # All of it over the connection.
    async with two(papers(folder, "source"), papers(folder, "target")) as (source, target, spec):
        assert len(spec.certificate) == 64
        source.say(Move("r1", 1, 2, spec.address, spec.certificate))
        assert (await source.hear(Moved)).done
        frames = [message for message in source.heard if isinstance(message, Frame)]
        check(frames + [await target.hear(Frame) for _ in range(3)])


async def test_the_target_must_be_the_one_that_the_gateway_means(folder):
    """A worker with a good certificate, at the address of another."""
    heard = []

    async def serve(reader, writer):
        with suppress(OSError):
            heard.append(await reader.read(10_000))
            writer.close()

    impostor = await asyncio.start_server(
        serve, "127.0.0.1", 0, ssl=papers(folder, "source").serving
    )
    address = "{}:{}".format(*impostor.sockets[0].getsockname())
    async with two(papers(folder, "source"), papers(folder, "target")) as (source, _, spec):
        source.say(Move("r1", 1, 2, address, spec.certificate))
        await stays_whole(source)
    impostor.close()
    assert b"".join(heard) == b""  # Not even the token was told.


@pytest.mark.parametrize("has_tls", ["source", "target"])
async def test_where_only_one_has_a_certificate_nothing_moves_in_the_open(folder, has_tls):
    mine = {
        name: papers(folder, name) if name == has_tls else None for name in ("source", "target")
    }
    async with two(mine["source"], mine["target"]) as (source, target, spec):
        source.say(Move("r1", 1, 2, spec.address, spec.certificate))
        await stays_whole(source)
        assert not any(isinstance(message, Frame) for message in target.heard)


@pytest.mark.parametrize("who", ["plain", "no certificate", "stranger"])
async def test_the_token_is_not_enough_to_bring_a_sequence(folder, who):
    tls_of = {
        "plain": lambda: None,
        "no certificate": lambda: tls.dialling(str(folder / "ca.pem")),
        "stranger": lambda: tls.dialling(str(folder / "ca.pem"), str(folder / "stranger.pem")),
    }
    context = tls_of[who]()
    if context is not None:
        context.check_hostname = False
    async with (
        a_gateway() as gateway,
        running(a_kv_worker(gateway.address, "target", papers(folder, "target"))),
    ):
        line = await gateway.line()
        hello = await line.welcome(heartbeat_s=0.1, gateway_time_s=now_s())
        where = Address.parse(hello.spec.address)
        answer = b""
        with suppress(ssl.SSLError, ConnectionError):
            reader, writer = await asyncio.open_connection(where.host, where.port, ssl=context)
            writer.write(wire.pack(peers.Greeting("secret")))
            writer.write(wire.pack(peers.Room(a_long_request(), 2, 100)))
            answer = await reader.read(1000)
            writer.close()
        with pytest.raises((msgspec.MsgspecError, IndexError)):
            msgspec.msgpack.decode(answer[4:], type=peers.Answer)
        await comes_home(line)
        line.hang_up()


async def test_a_certificate_is_not_enough_without_the_token(folder):
    mine = papers(folder, "source")
    async with (
        a_gateway() as gateway,
        running(a_kv_worker(gateway.address, "target", papers(folder, "target"))),
    ):
        line = await gateway.line()
        hello = await line.welcome(heartbeat_s=0.1, gateway_time_s=now_s())
        where = Address.parse(hello.spec.address)
        reader, writer = await asyncio.open_connection(where.host, where.port, ssl=mine.dialling)
        writer.write(wire.pack(peers.Greeting("forged")))
        writer.write(wire.pack(peers.Room(a_long_request(), 2, 100)))
        assert await reader.read() == b""
        writer.close()
        line.hang_up()


@pytest.mark.parametrize(
    ("dying", "at"),
    [("target", ("hears", "Piece", 2)), ("source", ("hears", "Whole", 1))],
)
async def test_whoever_is_killed_the_other_has_all_or_nothing_over_tls_too(folder, dying, at):
    await all_or_nothing(dying, at, settings(folder, "source"))


def test_a_certificate_that_others_would_not_take_is_explained_at_the_start(folder):
    with pytest.raises(ConfigError, match="other workers would not take the certificate"):
        peer_tls_of(settings(folder, "source", ca="strangers"))
    right = replace(settings(folder, "source", ca="strangers"), tls_peers_ca=str(folder / "ca.pem"))
    assert peer_tls_of(right) is not None
    assert peer_tls_of(PLAIN) is None
    with pytest.raises(ConfigError, match="which need a tls_cert"):
        replace(PLAIN, tls_peers_ca="ca.pem")
