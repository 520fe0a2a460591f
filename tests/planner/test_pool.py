"""Work in several processes: the order of results, errors, deaths, Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fairlead.model import ConfigError
from fairlead.planner.pool import WorkerDiedError, run_all


def square(n: int, tell: Callable[[int], None]) -> int:
    # The first is done last, so that an order of completion would show.
    time.sleep(0.2 if n == 0 else 0.0)
    tell(n)
    tell(2 * n)
    return n * n


def complain(n: int, tell: Callable[[int], None]) -> int:
    raise ConfigError(f"{n} is wrong")


def die(n: int, tell: Callable[[int], None]) -> int:
    if n == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def sleep(n: int, tell: Callable[[int], None]) -> int:
    tell(1)
    time.sleep(100)
    return n


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_items(jobs: int) -> None:
    told: list[tuple[int, int]] = []
    assert run_all(square, [0, 1, 2, 3], jobs, lambda *so_far: told.append(so_far)) == [0, 1, 4, 9]
    # Each item said how far it was in all, so nothing is counted twice.
    assert told[-1][0] == 2 * (0 + 1 + 2 + 3)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_mistake_is_told_as_it_was(jobs: int) -> None:
    with pytest.raises(ConfigError, match="7 is wrong"):
        run_all(complain, [7, 7], jobs)
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_told_with_what_to_do() -> None:
    with pytest.raises(WorkerDiedError, match=r"ended by itself .* fewer --jobs"):
        run_all(die, [0, 1, 2], 2)
    assert not multiprocessing.active_children()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Also where a shell has started the tests in the background, deaf to Ctrl-C."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_no_process_behind() -> None:
    """The signal goes to the parent once a child has said that it works."""
    sent = threading.Event()

    def interrupt(n: int, done: int) -> None:
        if n > 0 and not sent.is_set():
            sent.set()
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_all(sleep, [0, 1], 2, interrupt)
    assert sent.is_set()
    assert not multiprocessing.active_children()
    # Whoever called can still be interrupted.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
