"""What is for operators has a port of its own where there is one, and is nowhere else."""

from __future__ import annotations

import contextlib
import ssl

import httpx
import pytest
import trustme

from fairlead.gateway import GatewayConfig
from fairlead.model import ConfigError
from tests.gateway.conftest import new_gateway

OPERATORS = ("/dashboard", "/dashboard/state", "/dashboard/story/r1", "/metrics")
PUBLIC = ("/v1/models", "/openapi.json", "/v1/usage")


@contextlib.asynccontextmanager
async def serving(**settings):
    gateway = new_gateway(**settings)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


async def statuses(url, paths, **options):
    async with httpx.AsyncClient(base_url=url, **options) as client:
        return {path: (await client.get(path)).status_code for path in paths}


async def test_clients_find_nothing_of_the_operators():
    async with serving(admin_listen="127.0.0.1:0") as gateway:
        odd = ("/%64ashboard", "/dashboard/", "/metrics/", "//metrics", "/dashboard/../metrics")
        found = await statuses(gateway.url, (*OPERATORS, *odd))
        assert set(found.values()) == {404}
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            assert (await client.post("/dashboard/replay", json={})).status_code == 404
            document = (await client.get("/openapi.json")).json()
            assert "/metrics" not in document["paths"]
            said = (await client.get("/metrics")).json()
            assert said["error"]["code"] == "unknown_url"


async def test_operators_find_their_pages_and_no_api():
    async with serving(admin_listen="127.0.0.1:0") as gateway:
        assert gateway.admin_url is not None
        assert gateway.admin_url != gateway.url
        found = await statuses(gateway.admin_url, (*OPERATORS[:2], "/metrics", "/health"))
        assert set(found.values()) == {200}
        assert set((await statuses(gateway.admin_url, PUBLIC)).values()) == {404}


async def test_keys_open_the_dashboard_there_as_before():
    keys = {"a": "ops", "b": "other"}
    settings = {"api_keys": keys, "dashboard_tenants": ("ops",)}
    async with serving(admin_listen="127.0.0.1:0", **settings) as gateway:
        for key, status in (("", 401), ("b", 403), ("a", 200)):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            found = await statuses(gateway.admin_url, ["/dashboard/state"], headers=headers)
            assert found["/dashboard/state"] == status


async def test_without_one_all_is_on_the_clients_port(gateway):
    assert gateway.admin_url is None
    found = await statuses(gateway.url, ("/dashboard", "/metrics", "/v1/models", "/health"))
    assert set(found.values()) == {200}


async def test_it_closes_with_the_gateway():
    async with serving(admin_listen="127.0.0.1:0") as gateway:
        url = gateway.admin_url
    with pytest.raises(httpx.ConnectError):
        await statuses(url, ("/health",))


async def test_the_loopback_port_is_plain_where_clients_speak_tls(tmp_path):
    authority = trustme.CA()
    paper = authority.issue_cert("127.0.0.1")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "all.pem").write_bytes(paper.private_key_and_cert_chain_pem.bytes())
    mine = str(tmp_path / "all.pem")
    tls = {"tls_cert": mine, "tls_key": mine}
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    async with serving(admin_listen="127.0.0.1:0", **tls) as gateway:
        assert (await statuses(gateway.admin_url, ["/metrics"]))["/metrics"] == 200
        hidden = await statuses(gateway.url, ["/metrics"], verify=context)
        assert hidden["/metrics"] == 404
    async with serving(admin_listen="0.0.0.0:0", **tls) as gateway:
        assert gateway.admin_url.startswith("https://")
        url = gateway.admin_url.replace("0.0.0.0", "127.0.0.1")
        assert (await statuses(url, ["/metrics"], verify=context))["/metrics"] == 200


async def test_a_taken_port_and_a_wrong_address_are_explained(gateway):
    with pytest.raises(ConfigError, match="admin_listen: '8002' is not an address"):
        GatewayConfig(token="x", admin_listen="8002")
    other = new_gateway(admin_listen=gateway.address)
    with pytest.raises(ConfigError, match="is in use"):
        await other.start()
