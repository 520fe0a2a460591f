"""Who gets in, and what they may ask for."""

from __future__ import annotations

import asyncio

import pytest
from benchmarks.fake_worker import SPEC

from fairlead.store.tenant import Role
from tests.gateway.tenants.conftest import CHAT, Service, body


async def test_a_key_lets_its_tenant_in_at_once_and_nobody_else(service: Service) -> None:
    worker = await service.worker()
    key = service.key("acme")
    forged = [None, "x", "fl_", key + "x", key[:-1], "fl_000000000000_" + key[16:], "ключ"]
    for wrong in forged:
        headers = {} if wrong is None else {"authorization": f"Bearer {wrong}".encode()}
        async with service.client(None) as client:
            answer = await client.post(CHAT, json=body(), headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert (await client.get("/v1/models", headers=headers)).status_code == 401
    async with service.client(key) as client:
        assert (await client.post(CHAT, json=body())).status_code == 200
    (submit,) = worker.submits
    assert (submit.request.tenant, submit.request.cache_salt) == ("acme", b"acme")


async def test_a_flood_of_forged_keys_asks_the_database_now_and_then(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    exchange = service.door._books.exchange

    def count(*arguments: object) -> object:
        nonlocal asked
        asked += 1
        return exchange(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(service.door._books, "exchange", count)
    async with service.client("fl_000000000000_x") as client:
        answers = await asyncio.gather(*(client.get("/v1/models") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {401}
    assert asked <= 10  # As many tenths of a second as that took, on a busy machine.


async def test_a_revoked_an_expired_and_a_disabled_one_are_told_why(service: Service) -> None:
    key = service.key("acme")
    async with service.client(key) as client:
        assert (await client.get("/v1/models")).status_code == 200
        service.tenants.put("acme", {"enabled": False}, 2.0)
        await service.door.sync()
        answer = await client.get("/v1/models")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "tenant_disabled")
        service.tenants.put("acme", {"enabled": True}, 3.0)
        service.tenants.revoke([key.split("_")[1]], 4.0)
        await service.door.sync()
        answer = await client.get("/v1/models")
        assert (answer.status_code, "was revoked" in answer.text) == (401, True)
    old, _ = service.tenants.create_key("acme", 1.0, expires_s=2.0)
    await service.door.sync()
    async with service.client(old) as client:
        assert "has expired" in (await client.get("/v1/models")).text


async def test_only_what_a_tenant_may_use_exists_for_it(service: Service) -> None:
    key = service.key("acme", models=["another"])
    async with service.client(key) as client:
        assert (await client.get("/v1/models")).json()["data"] == []
        assert (await client.get(f"/v1/models/{SPEC.model}")).status_code == 403
        answer = await client.post(CHAT, json=body())
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")


@pytest.mark.parametrize(
    ("settings", "asked", "code"),
    [
        ({"tiers": ["batch"]}, {"service_tier": "interactive"}, "service_tier_not_allowed"),
        ({"tiers": ["batch"]}, {"fairlead": {"ttft_s": 0.01}}, "objective_not_allowed"),
        ({"max_output_tokens": 5}, {"max_tokens": 6}, "max_tokens_not_allowed"),
        ({"max_logprobs": 0}, {"logprobs": True}, "logprobs_not_allowed"),
        ({"max_logprobs": 1}, {"logprobs": True, "top_logprobs": 2}, "logprobs_not_allowed"),
    ],
)
async def test_what_a_tenant_may_not_ask_for_is_forbidden(
    service: Service, settings: dict[str, object], asked: dict[str, object], code: str
) -> None:
    async with service.client(service.key("acme", **settings)) as client:
        answer = await client.post(CHAT, json=body(**asked))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (403, code, "permission_error")


async def test_who_says_nothing_gets_what_its_tenant_is_given(service: Service) -> None:
    worker = await service.worker()
    given = (
        {"tiers": ["batch"], "weight": 3.0, "max_output_tokens": 4, "share_prefixes": True},
        {"default_tier": "batch"},
        {"tiers": ["interactive", "batch"]},
    )
    for i, settings in enumerate(given):
        async with service.client(service.key(f"t{i}", **settings)) as client:
            answer = await client.post(CHAT, json=body(max_tokens=None if i == 0 else 2))
            assert answer.status_code == 200
    first, second, third = (submit.request for submit in worker.submits)
    assert (first.objective.name, first.share_weight, first.max_tokens) == ("batch", 3.0, 4)
    assert (second.objective.name, third.objective.name) == ("batch", "interactive")
    assert (first.cache_salt, second.cache_salt) == (b"", b"t1")
    assert not set(second.block_hashes) & set(third.block_hashes)


async def test_nobody_goes_before_other_tenants_by_saying_so(service: Service) -> None:
    worker = await service.worker()
    async with service.client(service.key("acme")) as client:
        for priority in (-1000, 7):
            await client.post(CHAT, json=body(priority=priority))
    assert [submit.request.priority for submit in worker.submits] == [0, 7]


async def test_an_admin_sees_what_all_used_and_a_user_its_own(service: Service) -> None:
    await service.worker()
    user, other = service.key("acme"), service.key("else")
    for key in (user, other):
        async with service.client(key) as client:
            assert (await client.post(CHAT, json=body())).status_code == 200
    async with service.client(user) as client:
        (row,) = (await client.get("/v1/usage")).json()["data"]
        assert (row["tenant"], row["prompt_tokens"], row["output_tokens"]) == ("acme", 24, 3)
        assert (await client.get("/v1/usage?tenant=else")).status_code == 403
        for days in ("0", "x", "-1", "9" * 5000):
            assert (await client.get(f"/v1/usage?days={days}")).status_code == 400
    async with service.client(service.key("boss", Role.ADMIN)) as client:
        rows = (await client.get("/v1/usage?days=1")).json()["data"]
        assert [row["tenant"] for row in rows] == ["acme", "else"]
        (row,) = (await client.get("/v1/usage?tenant=else")).json()["data"]
        assert row["tenant"] == "else"
