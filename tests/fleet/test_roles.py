"""Roles as the fleet carries them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fairlead.model import (
    Deliver,
    Dispatch,
    Handoff,
    HandoffWhy,
    HostView,
    InstanceId,
    Produced,
    Refused,
    RefuseWhy,
    Reject,
    RequestId,
    RequestView,
    Role,
    SetRole,
    Tick,
    Tokens,
)
from tests.strategies import request, spec
from tests.world import World, fleet

A, B, C, R1 = InstanceId("a"), InstanceId("b"), InstanceId("c"), RequestId("r1")


class Says:
    """A roles policy that says what it was told to."""

    period_s = 0.0

    def __init__(self, roles: Mapping[InstanceId, Role], decoder: InstanceId | None = None) -> None:
        self.roles = roles
        self.decoder = decoder

    def assign(self, hosts: Sequence[HostView], now: float) -> Mapping[InstanceId, Role]:
        return self.roles

    def decoders(
        self, request: RequestView, here: HostView, others: Sequence[HostView], now: float
    ) -> Sequence[HostView]:
        return [host for host in (here, *others) if host.id == self.decoder]


def world(says: Says, **roles: Role) -> World:
    the_world = World(fleet(roles=says))
    for name, role in roles.items():
        the_world.up(replace(spec(name), role=role, address=name))
    return the_world


def first_token(the_world: World) -> list[object]:
    the_world.arrive(request("r1", out=8))
    return list(the_world.tell(Tokens(A, [Produced(R1, 1, 0, [5])])))


def test_a_role_changes_who_is_sent_requests() -> None:
    the_world = world(Says({A: Role.DECODE}), a=Role.MIXED, b=Role.MIXED)
    assert the_world.tell(Tick()) == [SetRole(A, Role.DECODE)]
    the_world.arrive(request("r1", out=8))
    assert the_world.fleet.requests[R1].instance == B


def test_a_role_is_told_once() -> None:
    the_world = world(Says({A: Role.DECODE}), a=Role.MIXED, b=Role.MIXED)
    the_world.tell(Tick())
    assert the_world.tell(Tick()) == []


def test_nobody_left_to_decode_is_refused() -> None:
    everybody = {A: Role.PREFILL, B: Role.PREFILL}
    the_world = world(Says(everybody), a=Role.MIXED, b=Role.MIXED)
    assert the_world.tell(Tick()) == [SetRole(A, Role.PREFILL)]


def test_nobody_left_to_begin_is_refused() -> None:
    everybody = {A: Role.DECODE, B: Role.DECODE}
    the_world = world(Says(everybody), a=Role.PREFILL, b=Role.DECODE)
    assert the_world.tell(Tick()) == []


def test_an_instance_that_is_gone_gets_no_role() -> None:
    the_world = world(Says({InstanceId("gone"): Role.DECODE}), a=Role.MIXED)
    assert the_world.tell(Tick()) == []


def test_one_for_prompts_that_is_chosen_decodes_from_then_on() -> None:
    the_world = world(Says({}, decoder=B), a=Role.PREFILL, b=Role.PREFILL, c=Role.DECODE)
    assert first_token(the_world)[1:] == [
        SetRole(B, Role.DECODE),
        Handoff(A, B, R1, 1, 2, HandoffWhy.PREFILL_DONE),
    ]


def test_a_request_may_decode_where_it_was_prefilled() -> None:
    the_world = world(Says({}, decoder=A), a=Role.PREFILL, b=Role.PREFILL, c=Role.DECODE)
    assert first_token(the_world)[1:] == [SetRole(A, Role.DECODE)]
    assert not the_world.fleet.requests[R1].is_moving


def test_the_last_one_for_prompts_does_not_decode() -> None:
    the_world = world(Says({}, decoder=A), a=Role.PREFILL, c=Role.DECODE)
    assert first_token(the_world)[1:] == []
    assert the_world.fleet.instances[A].role is Role.PREFILL


def test_a_request_without_a_decoder_stays() -> None:
    the_world = world(Says({}), a=Role.PREFILL, c=Role.DECODE)
    assert first_token(the_world)[1:] == []


def test_what_is_too_long_for_prompts_goes_to_who_else_only_decodes() -> None:
    the_world = world(Says({}), a=Role.PREFILL, c=Role.DECODE)
    the_world.arrive(request("r1", out=8))
    (action,) = the_world.tell(Refused(A, R1, 1, RefuseWhy.TOO_LONG))
    assert isinstance(action, Dispatch)
    assert action.instance == C
    (action,) = the_world.tell(Refused(C, R1, 2, RefuseWhy.TOO_LONG))
    assert isinstance(action, Reject)


def test_what_is_too_long_for_all_others_waits_for_nobody_who_begins_no_more() -> None:
    the_world = world(Says({}, decoder=B), c=Role.DECODE)
    one_seat = replace(spec("b"), role=Role.PREFILL, address="b", max_sequences=1, max_waiting=0)
    the_world.up(one_seat)
    the_world.arrive(request("r1", out=8))
    the_world.up(replace(spec("a"), role=Role.PREFILL, address="a"))
    the_world.arrive(request("r2", out=8))
    assert the_world.tell(Refused(A, RequestId("r2"), 1, RefuseWhy.TOO_LONG)) == []
    deliver, role, dispatch = the_world.tell(Tokens(B, [Produced(R1, 1, 0, [5])]))
    assert isinstance(deliver, Deliver)
    assert role == SetRole(B, Role.DECODE)
    assert isinstance(dispatch, Dispatch)
    assert (dispatch.request.id, dispatch.instance) == ("r2", C)
