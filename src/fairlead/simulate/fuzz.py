"""Plays what a seed draws, and looks whether every invariant holds: safety while things go wrong,
and afterwards that all requests end and all blocks come home."""

from __future__ import annotations

import re
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from fairlead.model import Action, Event, Reported, Tick
from fairlead.observe.log import EventLog
from fairlead.observe.log_file import LogFile
from fairlead.observe.read_log import read_log
from fairlead.observe.story import Storyteller
from fairlead.simulate.faulty import FaultySimulator
from fairlead.simulate.faulty_link import LATEST
from fairlead.simulate.faulty_machine import DIAL_S, SILENT_REPORTS
from fairlead.simulate.heap import ShuffledHeap
from fairlead.simulate.scenario import Scenario, SessionArrivals, draw
from fairlead.simulate.simulator import Observer, Simulator
from fairlead.simulate.watch import Watch

EVERY = 16
"""What is dear to check is checked at one event of so many."""
MOST_EVENTS = 1_000_000
"""A run with more of them is held to go round in circles; usual ones have some thousands."""
TOKEN_S = 0.1
"""Time allowed for each token of the traffic, as if all of it was computed one by one, several
times over."""
LONGEST_S = 60.0
"""CPU time of a run that is held to hang; usual ones take less than a second."""
LAST_EVENTS = 12
KV_BYTES = 1 << 17
"""Of one token, in the models that scenarios serve."""


@dataclass(frozen=True, slots=True)
class Played:
    """A run that held."""

    digest: str
    requests: int
    events: int
    until_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that did not."""

    seed: int
    what: str
    """The first thing that was wrong."""
    where: str
    """The innermost lines of code."""


def play(scenario: Scenario, *, every: int = EVERY, observers: Sequence[Observer] = ()) -> Played:
    """Raises `AssertionError`, or whatever else breaks, where an invariant does not hold."""
    watch = Watch(every)
    simulator = watch.simulator = _simulator(scenario, watch, observers)
    heap, clients = simulator.heap, simulator.clients
    clients.come(SessionArrivals(scenario.sessions), None)
    latest_s = healed_s(scenario) + _patience_s(scenario)
    while clients.busy:
        heap.run_next()
        assert heap.now < latest_s, f"10: at {heap.now:.1f} s still open: {list(clients.open)[:9]}"
        assert heap.n_events < MOST_EVENTS, f"10: round in circles at {heap.now:.3f} s"
    heap.run_until(max(heap.now, healed_s(scenario)) + _rest_s(scenario))
    watch.check_rest()
    n_records = len(simulator.records.columns())
    assert n_records == scenario.n_requests, f"1: {n_records} of {scenario.n_requests} ended"
    facts = simulator.facts()
    return Played(facts["digest"], scenario.n_requests, heap.n_events, heap.now)


def _simulator(scenario: Scenario, watch: Watch, observers: Sequence[Observer]) -> Simulator:
    rng = Random(f"{scenario.seed} order")
    usual: dict[str, Any] = {
        "observers": (*observers, watch.observe),
        "single_steps": scenario.single_steps,
        "heap": ShuffledHeap(rng) if scenario.shuffled else None,
    }
    config, seed = scenario.config(), scenario.seed
    if not scenario.faults:
        return Simulator(config, seed, **usual)
    faults = scenario.make_faults()
    return FaultySimulator(config, seed, faults, on_restart=(watch.restarted,), **usual)


def healed_s(scenario: Scenario) -> float:
    """When all that went wrong is over, and everybody who was given up has joined again."""
    simulation = scenario.fleet["simulation"]
    lasts_s = simulation["start_up_s"]
    for kind, tables in scenario.faults.items():
        for table in tables:
            lasts_s = max(lasts_s, table.get("for_s", 0.0))
            if kind == "messages":
                lasts_s = max(lasts_s, 2 * LATEST * table["late_s"])
    noticed_s = (SILENT_REPORTS + 2) * simulation["report_s"]
    return float(scenario.faulty_s + 2 * lasts_s + noticed_s + 5 * DIAL_S)


def _patience_s(scenario: Scenario) -> float:
    """Within this everything must have ended."""
    tokens = sum(
        call.prompt_tokens + call.output_tokens
        for session in scenario.sessions
        for call in session.calls
    )
    return float(30.0 + 3 * scenario.fleet["limits"]["max_queued_s"] + TOKEN_S * tokens)


def _rest_s(scenario: Scenario) -> float:
    """Within this, what nobody waits for is noticed by reports, and cancelled; a stage of a
    hand-off that is on its way is copied to its end."""
    simulation = scenario.fleet["simulation"]
    trip_s = simulation["delay_s"] + simulation["jitter_s"]
    tokens = max(pool["n_blocks"] * pool["block_tokens"] for pool in scenario.fleet["pool"])
    copy_s = tokens * KV_BYTES / simulation["handoff_bytes_per_s"]
    noticed_s = 5 * simulation["report_s"] + simulation["tick_s"]
    return float(1.0 + noticed_s + 10 * trip_s + copy_s)


def attempt(scenario: Scenario, *, every: int = EVERY) -> Failure | None:
    """Plays it; what broke, if anything."""
    try:
        with _at_most(LONGEST_S):
            play(scenario, every=every)
    except Exception as error:
        return _failure(scenario.seed, error)
    return None


def fuzz(seeds: Sequence[int], tell: Callable[[int], None] = lambda n: None) -> list[Failure]:
    """Draws and plays each seed; what broke. `tell` hears how many were played."""
    failures = []
    for n, seed in enumerate(seeds, start=1):
        failure = attempt(draw(seed))
        if failure is not None:
            failures.append(failure)
        tell(n)
    return failures


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Whatever computes for longer is held to hang. Counts this process's own time."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def too_long(*_: object) -> None:
        raise AssertionError(f"10: still computing after {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _failure(seed: int, error: Exception) -> Failure:
    what = str(error).splitlines()[0] if str(error) else ""
    lines = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)[-4:]
    ]
    kind = "" if isinstance(error, AssertionError) and what else f"{type(error).__name__}: "
    return Failure(seed, f"{kind}{what}", "\n".join(lines))


# ---------------------------------------------------------------- telling about a failure


def explain(scenario: Scenario) -> str:
    """What was drawn, what broke, the last events, and the story of the requests concerned."""
    last: deque[str] = deque(maxlen=LAST_EVENTS)

    def remember(event: Event, actions: Sequence[Action], now: float) -> None:
        if actions or not isinstance(event, Reported | Tick):
            lines = [f"{now:.6f} {_short(event)}", *(f"    -> {_short(a)}" for a in actions)]
            last.append("\n".join(lines))

    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.log"
        log = EventLog(LogFile(path, {"seed": scenario.seed}, lambda _: None))
        try:
            play(scenario, every=1, observers=(log.observe, remember))
            return f"seed {scenario.seed} holds\n\n{scenario.describe()}"
        except Exception as error:
            failure = _failure(scenario.seed, error)
        log.close()
        stories = [_story(path, id) for id in _mentioned(failure)]
    parts = [failure.what, failure.where, scenario.describe(), "\n".join(last), *stories]
    return "\n\n".join(part for part in parts if part)


def _mentioned(failure: Failure) -> list[str]:
    """Requests that its message names, the first few."""
    return list(dict.fromkeys(re.findall(r"\br\d+\b", failure.what)))[:2]


def _story(path: Path, id: str) -> str:
    story = Storyteller(id).tell(read_log(path))
    if story is None:
        return ""
    lines = [f"{moment.t_s:10.4f} s  {moment.text}" for moment in story.moments]
    return "\n".join([story.title, *lines])


def _short(value: object, most: int = 300) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
