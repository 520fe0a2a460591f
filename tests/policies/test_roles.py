"""The behaviour that each roles policy claims."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from fairlead.model import ConfigError, Objective, Role
from fairlead.policies import registry
from tests.policies.fakes import Host, build, crowd, host, host_lists, placed
from tests.strategies import request

ROLES = [entry.name for entry in registry.entries() if entry.family == "roles"]
PACE = Objective("pace", tpot_s=0.02)
"""The fakes take 10 ms a token, and 1 ms more for each sequence."""
P, D, M = Role.PREFILL, Role.DECODE, Role.MIXED


def policy(name: str, **params: Any) -> Any:
    return build("roles", name, **params)


def ids(hosts: list[Host]) -> list[str]:
    return [host.id for host in hosts]


@given(host_lists())
@pytest.mark.parametrize("name", ROLES)
def test_only_instances_that_there_are_get_roles(name: str, hosts: list[Host]) -> None:
    assert set(policy(name).assign(hosts, 1.0)) <= {host.id for host in hosts}


@given(host_lists())
@pytest.mark.parametrize("name", ROLES)
def test_only_instances_that_were_offered_decode(name: str, hosts: list[Host]) -> None:
    here, *others = [*hosts, host("here", role=P)][::-1]
    roles = policy(name)
    roles.assign([here, *others], 0.0)
    chosen = roles.decoders(request("r", []), here, others, 1.0)
    assert set(ids(chosen)) <= {"here", *ids(others)}


def test_without_changes_what_is_prefilled_goes_to_those_for_decoding() -> None:
    others = [host("m"), host("d", role=D), host("p", role=P)]
    here = host("here", role=P)
    assert ids(policy("none").decoders(request("r", []), here, others, 0.0)) == ["d"]
    assert ids(policy("none").decoders(request("r", []), here, others[::2], 0.0)) == ["m"]


# ---------------------------------------------------------------- adaptive-pd


def test_one_stays_for_prompts_and_one_for_decoding() -> None:
    hosts = [host("a"), host("b"), host("c"), host("d")]
    assert policy("adaptive-pd").assign(hosts, 0.0) == {"a": P, "b": D, "c": P, "d": P}
    assert policy("adaptive-pd").assign([host("a", role=P)], 0.0) == {"a": M}


def test_decodes_are_packed_while_the_pace_holds() -> None:
    """0.85 of 20 ms leaves room for seven sequences."""
    here = host("here", role=P)
    others = [
        crowd("few", 2, 160, role=D),
        crowd("more", 6, 160, role=D),
        crowd("full", 9, 160, role=D),
    ]
    one = request("r", [], objective=PACE)
    assert ids(policy("adaptive-pd").decoders(one, here, others, 0.0)) == ["more"]


def test_where_the_pace_is_lost_one_for_prompts_decodes() -> None:
    policy_ = policy("adaptive-pd")
    hosts = [
        host("a", role=P),
        crowd("b", 9, 160, role=D),
        host("c", role=P, queue=[placed("q", 500)]),
        host("d", role=P, queue=[placed("w", 100)]),
    ]
    policy_.assign(hosts, 0.0)
    one = request("r", [], objective=PACE)
    assert ids(policy_.decoders(one, hosts[0], hosts[1:], 0.0)) == ["d"]
    # It may be the one that computed the prompt.
    assert ids(policy_.decoders(one, hosts[3], hosts[:3], 0.0)) == ["d"]
    # The one that stays for prompts does not decode, however idle it is.
    assert ids(policy_.decoders(one, hosts[0], hosts[1:2], 0.0)) == ["b"]


def test_who_decodes_nothing_computes_prompts_after_a_while() -> None:
    policy_ = policy("adaptive-pd", dwell_s=2.0)
    hosts = [host("a", role=P), crowd("b", 9, 160, role=D), host("c", role=P)]
    policy_.assign(hosts, 0.0)
    one = request("r", [], objective=PACE)
    assert ids(policy_.decoders(one, hosts[2], hosts[:2], 1.0)) == ["c"]
    idle = [*hosts[:2], host("c", role=D)]
    assert policy_.assign(idle, 2.0) == {}
    assert policy_.assign(idle, 3.0) == {"c": P}


# ---------------------------------------------------------------- pd-serve


def test_the_side_that_is_late_gets_an_instance_of_the_other() -> None:
    slow = [placed(f"q{i}", 400) for i in range(3)]
    hosts = [host("a", role=P, queue=slow), host("b", role=D), crowd("c", 1, 160, role=D)]
    policy_ = policy("pd-serve")
    assert policy_.assign(hosts, 0.0) == {"b": P}
    assert policy_.assign(hosts, 4.0) == {}
    assert policy_.assign(hosts, 5.0) == {"b": P}


def test_a_lost_pace_takes_one_from_the_prompts() -> None:
    hosts = [host("a", role=P), host("b", role=P), crowd("c", 45, 16, role=D)]
    assert policy("pd-serve").assign(hosts, 0.0) == {"a": D}


def test_where_both_are_late_nobody_changes() -> None:
    slow = [placed(f"q{i}", 400) for i in range(3)]
    hosts = [host("a", role=P, queue=slow), crowd("b", 45, 16, role=D), crowd("c", 45, 16, role=D)]
    assert policy("pd-serve").assign(hosts, 0.0) == {}


def test_the_last_of_a_side_stays() -> None:
    slow = [placed(f"q{i}", 400) for i in range(3)]
    hosts = [host("a", role=P, queue=slow), host("b", role=D)]
    assert policy("pd-serve").assign(hosts, 0.0) == {}


# ---------------------------------------------------------------- when-it-pays


def test_a_request_is_split_where_the_pace_elsewhere_wins_back_the_hand_off() -> None:
    """100 tokens are expected, and a token of context takes 1 ms to hand off."""
    here, others = crowd("here", 4, 16, role=P), [host("d", role=D)]
    pays = policy("when-it-pays")
    assert ids(pays.decoders(request("r", [], prompt_tokens=300), here, others, 0.0)) == ["d"]
    assert pays.decoders(request("r", [], prompt_tokens=500), here, others, 0.0) == []


def test_it_is_split_where_somebody_waits_or_the_pace_is_lost() -> None:
    pays, others = policy("when-it-pays"), [host("d", role=D)]
    busy = host("here", role=P, queue=[placed("q", 16)])
    assert ids(pays.decoders(request("r", [], prompt_tokens=5000), busy, others, 0.0)) == ["d"]
    slow = crowd("here", 12, 16, role=P)
    one = request("r", [], prompt_tokens=50_000, objective=PACE)
    assert ids(pays.decoders(one, slow, others, 0.0)) == ["d"]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("adaptive-pd", {"pack": 0.0}),
        ("adaptive-pd", {"dwell_s": -1.0}),
        ("pd-serve", {"low": 0.9, "high": 0.8}),
        ("when-it-pays", {"margin": -1.0}),
        ("random-roles", {"period_s": -1.0}),
    ],
)
def test_bad_parameters_are_refused(name: str, params: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        policy(name, **params)
