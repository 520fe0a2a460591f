"""What really happened, as an event log tells it: the same Summary as of any other run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fairlead.model import Objective
from fairlead.observe.log_trace import Logged, LogTrace, logged_requests
from fairlead.observe.read_log import read_head
from fairlead.workload.figures import RunFacts, Summary
from fairlead.workload.recorder import Recorder
from fairlead.workload.records import Ending, RequestRecord


def log_summary(trace: LogTrace, window_s: tuple[float, float] | None = None) -> Summary:
    """Of the requests that arrived inside the window, on the trace's clock, and have ended."""
    recorder = Recorder()
    for logged in _inside(trace, window_s):
        recorder.append(_record(logged))
    facts = RunFacts(trace=trace.name, fleet=trace.metadata["fleet"], policy=_policy(trace.path))
    return recorder.summary(facts)


def _inside(trace: LogTrace, window_s: tuple[float, float] | None) -> Iterator[Logged]:
    begin_s, end_s = window_s or (float("-inf"), float("inf"))
    last_s = 0.0
    for logged in logged_requests(trace.path):
        last_s = max(last_s, logged.arrival_s - trace.begun_s)
        if logged.over and begin_s <= last_s < end_s:
            yield logged


def _record(logged: Logged) -> RequestRecord:
    asked, end, shift_s = logged.asked, logged.end, logged.to_wall_s
    finished = end if end is not None and end["what"] == "complete" else {}

    def wall(name: str) -> float | None:
        time_s = finished.get(name)
        return None if time_s is None else time_s + shift_s

    return RequestRecord(
        asked["request"],
        logged.arrival_s,
        _ending(logged),
        Objective(**asked["objective"]),
        asked.get("tenant", ""),
        asked.get("program"),
        wall("first_s"),
        wall("last_s"),
        None if end is None else end["t"] + shift_s,
        prompt_tokens=asked["prompt_tokens"],
        output_tokens=logged.produced,
        cached_tokens=finished.get("cached_tokens"),
        why="" if end is None else end.get("why", ""),
        instance=finished.get("instance", ""),
    )


def _ending(logged: Logged) -> Ending:
    if logged.end is None:
        return Ending.FAILED
    if logged.end["what"] == "reject":
        return Ending.REJECTED
    return Ending(logged.end["outcome"])


def _policy(path: Path) -> dict[str, str]:
    """Policies that were at work, where the log says."""
    policy = read_head(path).get("policy")
    return {str(k): str(v) for k, v in policy.items()} if isinstance(policy, dict) else {}
