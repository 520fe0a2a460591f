"""Both ports speak TLS where they are told to, and to nobody who cannot."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass

import httpx
import pytest
import trustme
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.gateway import GatewayConfig
from fairlead.model import ConfigError
from fairlead.worker import tls
from fairlead.worker.link import Address, Link
from tests.gateway.conftest import TOKEN, new_gateway
from tests.gateway.test_bad_input import CHAT, chat
from tests.patience import PATIENCE_S


@dataclass
class Papers:
    """Files of one authority: what a gateway at 127.0.0.1 shows, and what a worker does."""

    ca: str
    cert: str
    key: str
    worker: str
    strangers_ca: str
    stranger: str

    @property
    def clients_port(self):
        return {"tls_cert": self.cert, "tls_key": self.key}

    @property
    def workers_port(self):
        return {"workers_tls_cert": self.cert, "workers_tls_key": self.key}


@pytest.fixture(scope="module")
def papers(tmp_path_factory) -> Papers:
    folder = tmp_path_factory.mktemp("tls")

    def write(name, *blobs):
        path = folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    ours, theirs = trustme.CA(), trustme.CA()
    gateway, worker = ours.issue_cert("127.0.0.1"), ours.issue_cert("worker.example")
    stranger = theirs.issue_cert("worker.example")
    return Papers(
        write("ca.pem", ours.cert_pem),
        write("gateway.pem", *gateway.cert_chain_pems),
        write("gateway.key", gateway.private_key_pem),
        write("worker.pem", worker.private_key_pem, *worker.cert_chain_pems),
        write("strangers_ca.pem", theirs.cert_pem),
        write("stranger.pem", stranger.private_key_pem, *stranger.cert_chain_pems),
    )


@contextlib.asynccontextmanager
async def serving(**settings):
    gateway = new_gateway(**settings)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


class Dialler:
    """A `link.Receiver` that only wants to know whether it is let in."""

    def __init__(self) -> None:
        self.is_welcome = asyncio.Event()

    def hello(self):
        return FakeWorker(token=TOKEN).hello()

    def welcomed(self, welcome):
        self.is_welcome.set()

    def received(self, message):
        pass

    def changed(self):
        pass


async def test_clients_speak_https_streams_included(papers):
    async with serving(**papers.clients_port) as gateway:
        assert gateway.url.startswith("https://")
        worker = await FakeWorker(pace_s=0).join(gateway.workers_address)
        context = ssl.create_default_context(cafile=papers.ca)
        async with httpx.AsyncClient(base_url=gateway.url, verify=context) as client:
            assert (await client.post(CHAT, content=chat())).status_code == 200
            streamed = await client.post(CHAT, content=chat(stream=True, max_tokens=20))
            assert streamed.text.endswith("data: [DONE]\n\n")
        worker.transport.abort()


async def test_plain_http_on_a_tls_port_gets_nothing(papers):
    async with serving(**papers.clients_port) as gateway:
        host, _, port = gateway.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /health HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await reader.read()
        writer.close()


async def test_old_tls_is_refused(papers):
    async with serving(**papers.clients_port) as gateway:
        host, _, port = gateway.address.rpartition(":")
        old = ssl.create_default_context(cafile=papers.ca)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(host, int(port), ssl=old)


async def test_a_worker_joins_over_tls_and_local_ones_through_the_loopback_port(papers):
    async with serving(**papers.workers_port) as gateway:
        far = await FakeWorker().join(gateway.workers_address, tls.dialling(papers.ca))
        assert gateway.local_workers_address.startswith("127.0.0.1:")
        assert gateway.local_workers_address != gateway.workers_address
        near = await FakeWorker().join(gateway.local_workers_address)
        assert len(gateway.hub.workers) == 2
        far.transport.abort()
        near.transport.abort()


async def test_without_tls_there_is_no_port_more(gateway):
    assert gateway.local_workers_address == gateway.workers_address


async def test_a_worker_does_not_tell_its_token_to_a_gateway_it_does_not_trust(papers):
    async with serving(**papers.workers_port) as gateway:
        dialler = Dialler()
        link = Link(
            Address.parse(gateway.workers_address),
            dialler,
            tls=tls.dialling(papers.strangers_ca),
        )
        with pytest.raises(ConfigError, match="tls_ca"):
            await link.run()
        assert not gateway.hub.workers


@pytest.mark.parametrize("paper", ["", "stranger"])
async def test_a_token_is_not_enough_where_certificates_are_wanted(papers, paper):
    async with serving(**papers.workers_port, workers_tls_ca=papers.ca) as gateway:
        told = []
        shown = getattr(papers, paper) if paper else ""
        context = tls.dialling(papers.ca, shown)
        address = Address.parse(gateway.workers_address)
        running = asyncio.create_task(Link(address, Dialler(), told.append, context).run())
        async with asyncio.timeout(PATIENCE_S):
            while not told:
                await asyncio.sleep(0.01)
        assert "trying again" in told[0]
        assert not gateway.hub.workers
        running.cancel()


async def test_a_certificate_is_not_enough_without_the_token(papers):
    async with serving(**papers.workers_port, workers_tls_ca=papers.ca) as gateway:
        context = tls.dialling(papers.ca, papers.worker)
        worker = await FakeWorker(token="wrong").join(gateway.workers_address, context)
        assert not gateway.hub.workers
        worker.transport.abort()


async def test_certificate_and_token_let_a_worker_in(papers):
    async with serving(**papers.workers_port, workers_tls_ca=papers.ca) as gateway:
        dialler = Dialler()
        context = tls.dialling(papers.ca, papers.worker)
        address = Address.parse(gateway.workers_address)
        running = asyncio.create_task(Link(address, dialler, tls=context).run())
        async with asyncio.timeout(PATIENCE_S):
            await dialler.is_welcome.wait()
        assert set(gateway.hub.workers) == {SPEC.id}
        running.cancel()


def test_half_a_pair_and_files_that_are_none_are_explained(papers, tmp_path):
    with pytest.raises(ConfigError, match="tls_cert and tls_key belong together"):
        GatewayConfig(token="x", tls_cert=papers.cert)
    with pytest.raises(ConfigError, match="workers_tls_ca needs"):
        GatewayConfig(token="x", workers_tls_ca=papers.ca)
    with pytest.raises(ConfigError, match="No such file"):
        new_gateway(tls_cert=str(tmp_path / "none.pem"), tls_key=papers.key)
    with pytest.raises(ConfigError, match="belong together"):
        new_gateway(tls_cert=papers.cert, tls_key=papers.ca)
    with pytest.raises(ConfigError, match="certificate authority"):
        tls.dialling(papers.key)
