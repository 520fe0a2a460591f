"""Tenants and their keys."""

from __future__ import annotations

import pytest

from fairlead.model import ConfigError
from fairlead.store.database import Database
from fairlead.store.secret import id_of, matches
from fairlead.store.tenant import Role, Tenant, make_tenant
from fairlead.store.tenants import Tenants


@pytest.fixture
def tenants(database: Database) -> Tenants:
    return Tenants(database)


def test_a_key_is_shown_once_and_kept_as_a_digest(tenants: Tenants, database: Database) -> None:
    tenants.put("acme", {}, 1.0)
    secret, key = tenants.create_key("acme", 2.0, role=Role.ADMIN, label="ci", expires_s=9.0)
    assert tenants.keys() == [key]
    assert matches(secret.encode(), key.digest)
    assert id_of(secret.encode()) == key.id
    assert not matches(secret.encode() + b"x", key.digest)
    with database.begin() as connection:
        rows = connection.exec_driver_sql("select * from keys").all()
    assert secret[-20:] not in repr(rows)
    assert (key.is_valid(8.9), key.is_valid(9.0)) == (True, False)


def test_a_revoked_key_is_of_no_use_and_still_listed(tenants: Tenants) -> None:
    tenants.put("acme", {}, 1.0)
    _, one = tenants.create_key("acme", 2.0)
    _, two = tenants.create_key("acme", 3.0)
    tenants.revoke([one.id], 5.0)
    tenants.revoke([one.id], 7.0)
    first, second = tenants.keys("acme")
    assert (first.revoked_s, second.revoked_s) == (5.0, None)
    assert not first.is_valid(4.0)
    with pytest.raises(ConfigError, match="no key has the id"):
        tenants.revoke([two.id, "nobody"], 8.0)
    assert tenants.keys("acme")[1].is_valid(9.0)


def test_settings_change_one_by_one_and_go_back_to_their_defaults(tenants: Tenants) -> None:
    tenants.put("acme", {"weight": 2, "models": ["a", "b"]}, 1.0)
    tenants.put("acme", {"weight": None, "max_logprobs": 0}, 2.0)
    expected = Tenant("acme", models=("a", "b"), max_logprobs=0)
    assert tenants.tenants() == [tenants.tenant("acme")] == [expected]


def test_every_change_is_seen_by_who_looks(tenants: Tenants) -> None:
    tenants.put("acme", {}, 1.0)
    seen = tenants.read_if_changed(-1)
    assert seen is not None
    assert [tenant.name for tenant in seen[1]] == ["acme"]
    assert tenants.read_if_changed(seen[0]) is None
    _, key = tenants.create_key("acme", 2.0)
    after = tenants.read_if_changed(seen[0])
    assert after is not None
    assert after[2] == [key]
    tenants.revoke([key.id], 3.0)
    assert tenants.read_if_changed(after[0]) is not None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"wieght": 1.0}, "did you mean 'weight'"),
        ({"weight": 0.0}, "weight must be above 0"),
        ({"weight": "much"}, "weight must be a number"),
        ({"requests_per_minute": 0}, "at least 1"),
        ({"budget_period": "week"}, "day, month or total"),
        ({"tiers": ["a"], "default_tier": "b"}, "none of its tiers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_tenant("acme", settings)


@pytest.mark.parametrize(
    "name", ["", "a b", "асме", "a\r\nx-admin: 1", "../x", "a" * 65, "-a", "a\u202eb", "ａ", "a\n"]
)
def test_a_name_that_could_be_taken_for_another_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        make_tenant(name, {})


@pytest.mark.parametrize("key", [b"", b"fl_", b"sk-abc", b"fl_" + b"a" * 500, "fl_ä_x".encode()])
def test_what_is_no_key_has_no_id_that_anybody_has(key: bytes) -> None:
    assert id_of(key) in (None, "")
    assert not matches(key, None)
