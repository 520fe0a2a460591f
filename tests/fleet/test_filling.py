"""How much batch work fits beside what clients wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from fairlead.fleet.filling import Filling


@dataclass
class Host:
    """As much of a shadow as the rule looks at; a step takes a millisecond for each who decodes."""

    running: int = 0
    waiting: int = 0
    has_room: bool = True
    available_blocks: int = 1000
    total_blocks: int = 1000
    max_sequences: int = 1000

    def decode_step_s(self, n_more: int) -> float:
        return 0.001 * (self.running + self.waiting + n_more)


def room(*hosts: Host, n_queued: int = 0, **numbers: Any) -> int:
    return Filling(**numbers).room(cast(Any, hosts), n_queued)


def test_every_instance_takes_a_few_and_no_more_until_they_have_begun() -> None:
    assert room(Host(), Host()) == 8
    assert room(Host(waiting=3), Host(running=50)) == 5
    assert room(Host(waiting=4), Host(running=9, waiting=40)) == 0


def test_nobody_who_queues_is_passed_by() -> None:
    assert room(Host(), Host(), n_queued=1) == 0


def test_memory_is_kept_for_those_who_come() -> None:
    assert room(Host(running=9, available_blocks=99)) == 0
    assert room(Host(running=9, available_blocks=101)) == 4
    assert room(Host(available_blocks=0)) == 4, "an empty instance has nobody to be kept from"


def test_seats_are_kept_for_those_who_come() -> None:
    assert room(Host(running=20, max_sequences=32)) == 4
    assert room(Host(running=25, waiting=1, max_sequences=32)) == 2
    assert room(Host(running=28, max_sequences=32)) == 0


def test_the_promised_pace_is_kept() -> None:
    assert room(Host(running=20), pace_s=0.05) == 4
    assert room(Host(running=28), pace_s=0.05) == 2
    assert room(Host(running=30), pace_s=0.05) == 0
    assert room(Host(running=400)) == 4, "where no pace is promised there is none to keep"


def test_a_pool_without_instances_gets_a_few_for_which_some_may_start() -> None:
    assert room() == 4
    assert room(n_queued=4) == 0


def test_a_full_instance_takes_nothing() -> None:
    assert room(Host(has_room=False)) == 0
