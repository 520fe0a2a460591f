"""Many simulations at once, one in each of several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_any
from typing import Any, Protocol, TypeVar

from fairlead.model import FairleadError

REFRESH_S = 0.25

Item = TypeVar("Item", contravariant=True)
Found = TypeVar("Found", covariant=True)
Progress = Callable[[int, int], None]
"""Hears how many requests have been simulated so far, and how many items are done."""


class Work(Protocol[Item, Found]):
    """A function of a module, so that other processes find it."""

    def __call__(self, item: Item, tell: Callable[[int], None], /) -> Found:
        """`tell` takes how many requests of this item have been simulated so far."""
        ...


class WorkerDiedError(FairleadError):
    """A process that ran simulations is gone."""


def run_all(
    work: Work[Item, Found],
    items: Sequence[Item],
    jobs: int,
    progress: Progress | None = None,
) -> list[Found]:
    """What `work` makes of each item, in the order of the items, whoever was done first.

    The first error ends everything, and so does Ctrl-C: no process is left behind.
    """
    if min(jobs, len(items)) <= 1:
        return _one_by_one(work, items, progress)
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    executor = ProcessPoolExecutor(
        min(jobs, len(items)), context, initializer=_begin, initargs=(counter,)
    )
    before = set(multiprocessing.active_children())
    futures: list[Future[Found]] = []
    try:
        with _interrupt_ignored_by_children():
            futures += [executor.submit(_run, work, item) for item in items]
        _watch(futures, counter, progress)
        return [future.result() for future in futures]
    except BrokenProcessPool:
        raise WorkerDiedError(_died(futures)) from None
    finally:
        # Whoever still works here does it for nobody: an error or Ctrl-C has ended the run.
        if not all(future.done() for future in futures):
            for process in set(multiprocessing.active_children()) - before:
                process.kill()
        executor.shutdown(cancel_futures=True)


def _one_by_one(
    work: Work[Item, Found], items: Sequence[Item], progress: Progress | None
) -> list[Found]:
    tally = _Tally()
    found = []
    for done, item in enumerate(items):
        tally.begin()

        def tell(n: int, done: int = done) -> None:
            tally.tell(n)
            if progress is not None:
                progress(tally.total, done)

        found.append(work(item, tell))
    return found


def _watch(futures: Sequence[Future[Any]], counter: Any, progress: Progress | None) -> None:
    """Returns when all are done or one has failed."""
    while True:
        done, left = wait(futures, REFRESH_S, FIRST_EXCEPTION)
        if progress is not None:
            progress(counter.value, len(done))
        if not left or any(future.exception() is not None for future in done):
            for future in done:
                future.result()
            return


def _died(futures: Sequence[Future[Any]]) -> str:
    done = sum(future.done() and future.exception() is None for future in futures)
    return (
        f"a process that ran simulations ended by itself after {done} of {len(futures)} were done; "
        "perhaps it was killed for lack of memory. Run again with fewer --jobs, or a smaller "
        "--limit."
    )


@contextmanager
def _interrupt_ignored_by_children() -> Iterator[None]:
    """Processes that start in here never hear Ctrl-C, not even while they import: the terminal
    sends it to all of them, and it is ours to answer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


# ---------------------------------------------------------------- in the other processes


class _Tally:
    """Adds up what the items of one process tell."""

    def __init__(self, counter: Any = None) -> None:
        self._counter = counter
        self._told = 0
        self.total = 0

    def begin(self) -> None:
        self._told = 0

    def tell(self, n: int) -> None:
        more, self._told = n - self._told, n
        self.total += more
        if self._counter is not None:
            with self._counter.get_lock():
                self._counter.value += more


_tally = _Tally()


def _begin(counter: Any) -> None:
    global _tally
    _tally = _Tally(counter)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed can stop nobody any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_any([parent.sentinel])
        os._exit(1)


def _run(work: Work[Item, Found], item: Item) -> Found:
    _tally.begin()
    return work(item, _tally.tell)
