"""Memory between two workers: seen where it can be, and gone with those who hold it."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from fairlead.worker import shared
from fairlead.worker.shared import LEAST_BYTES, Lent, Offer, Own, borrow, memory_for

pytestmark = pytest.mark.skipif(not shared.LINUX, reason="no such memory but on Linux")


def memories() -> int:
    """Those that this process holds, by descriptor or by mapping."""
    gc.collect()
    n = Path("/proc/self/maps").read_text().count("memfd:fairlead-kv")
    for fd in Path("/proc/self/fd").iterdir():
        try:
            n += "memfd:fairlead-kv" in os.readlink(fd)
        except OSError:
            continue  # The listing's own.
    return n


def offer_of(lent: Lent) -> Offer:
    assert lent.offer is not None
    return lent.offer


def seen(n_bytes: int = 4096) -> Lent:
    lent = Lent(n_bytes)
    lent.seen(True)
    return lent


def test_the_target_sees_what_the_source_places() -> None:
    lent = seen()
    borrowed = borrow(offer_of(lent))
    assert borrowed is not None
    image = lent.place(5)
    image[:] = b"hello"
    assert lent.holds(image)
    assert borrowed[:5] == b"hello"
    lent.close()


def test_what_the_target_has_stays_when_the_source_is_gone() -> None:
    lent = seen()
    borrowed = borrow(offer_of(lent))
    assert borrowed is not None
    lent.place(5)[:] = b"hello"
    lent.close()
    del lent
    assert borrowed[:5] == b"hello"


def test_nothing_is_left_when_both_have_gone() -> None:
    before = memories()
    lent = seen()
    borrowed = borrow(offer_of(lent))
    image = lent.place(100)
    assert memories() > before
    lent.close()
    del lent, borrowed, image
    assert memories() == before


def test_memory_that_is_not_seen_or_too_small_is_not_used() -> None:
    lent = Lent(4096)
    assert not lent.holds(lent.place(10))
    lent.seen(True)
    assert not lent.holds(large := lent.place(4097))
    assert len(large) == 4097
    assert lent.holds(lent.place(4096))
    lent.close()


def test_a_machine_without_room_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    lent = seen()
    image = lent.place(10)
    image[:] = bytes(10)
    assert not lent.holds(image)
    lent.close()


@pytest.mark.parametrize(
    "change",
    [{"pid": 1 << 30}, {"pid": 1}, {"fd": 0}, {"fd": -1}, {"name": "x"}, {"n_bytes": 8192}],
)
def test_what_is_something_else_from_here_is_not_seen(change: dict[str, Any]) -> None:
    """As in a container of its own, where the same numbers mean other processes and files."""
    lent = Lent(4096)
    assert borrow(offer_of(lent)) is not None
    assert borrow(msgspec.structs.replace(offer_of(lent), **change)) is None
    lent.close()
    assert borrow(offer_of(lent)) is None


def test_own_memory_is_kept_for_the_next_image() -> None:
    own = Own()
    first = own.place(100)
    assert own.place(60).obj is first.obj
    assert len(own.place(60)) == 60
    assert len(own.place(200)) == 200
    assert not own.holds(first)


class Line:
    """As much of a connection as is asked for."""

    def __init__(self, ours: str, theirs: str) -> None:
        self._ends = {"sockname": (ours, 1), "peername": (theirs, 2)}

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return self._ends[name]


def offered_to(theirs: str, n_bytes: int = LEAST_BYTES) -> bool:
    memory = memory_for(cast(asyncio.StreamWriter, Line("10.0.0.1", theirs)), n_bytes)
    memory.close()
    return memory.offer is not None


def test_only_what_is_worth_it_is_lent_and_only_on_this_machine() -> None:
    assert offered_to("10.0.0.1")
    assert not offered_to("10.0.0.2")
    assert not offered_to("10.0.0.1", LEAST_BYTES - 1)


def test_where_there_is_no_such_memory_nothing_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "memfd_create", none_left)
    assert not offered_to("10.0.0.1")
    monkeypatch.setattr(shared, "LINUX", False)
    assert not offered_to("10.0.0.1")
