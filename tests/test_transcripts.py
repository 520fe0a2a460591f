"""Plays: each file of `transcripts/` is a list of commands, each followed by what the fleet did.

    fleet a b routing=least-load        instances, policies, and any field of an instance
    arrive r1 prompt=20 out=4 ttft=0.5  a request (prefix=N: its first N ids are shared by all)
    step a [n]                          n steps of one instance, with all its messages
    settle                              everything runs until nothing is left to do
    kill a / up a / report a / lose a   (lose: what was sent to a and not yet read)
    cancel r1 / drain / wait 2.5 / tick

A changed decision shows as a difference; `pytest tests/test_transcripts.py --rewrite` accepts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.model import (
    Action,
    Cancel,
    Complete,
    Deliver,
    Dispatch,
    Draining,
    Objective,
    Reject,
    Tick,
)
from tests.strategies import request, spec
from tests.world import World, fleet

FOLDER = Path(__file__).parent / "transcripts"


def value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def tell(action: Action) -> str:
    match action:
        case Dispatch():
            resume = f"  resume_at={len(action.produced)}" if action.attempt > 1 else ""
            return (
                f"dispatch {action.request.id} -> {action.instance}  why={action.why.value}{resume}"
            )
        case Deliver():
            rows = (
                f"{row.request}[{row.start}:{row.start + len(row.token_ids)}]"
                for row in action.rows
            )
            return f"deliver {' '.join(rows)}"
        case Complete():
            how = f" {action.reason.value}" if action.reason else ""
            cached = f"  cached={action.cached_tokens}" if action.cached_tokens else ""
            return f"{action.outcome.value} {action.request}{how}  why={action.why.value}{cached}"
        case Reject():
            retry = "never" if action.retry_after_s is None else f"{action.retry_after_s:.2f}"
            return f"reject {action.request}  why={action.why.value}  retry_after_s={retry}"
        case Cancel():
            return f"cancel {action.request} on {action.instance}  why={action.why.value}"


class Play:
    def __init__(self) -> None:
        self.world: World | None = None
        self.lives: dict[str, int] = {}
        self.fields: dict[str, Any] = {}

    def perform(self, line: str) -> list[str]:
        command, *words = line.split()
        options = {k: value(v) for k, _, v in (w.partition("=") for w in words if "=" in w)}
        names = [word for word in words if "=" not in word]
        if command == "fleet":
            batching = options.pop("batching", "fcfs")
            mine = {k: options.pop(k) for k in ("routing", "admission") if k in options}
            limits = {
                k: options.pop(k)
                for k in list(options)
                if k in ("max_queued", "max_queued_s", "max_deaths")
            }
            self.world, self.fields = World(fleet(**mine, **limits), batching), options
            for name in names:
                self.up(name)
            return []
        assert self.world is not None, "a play begins with its fleet"
        seen = len(self.world.log)
        getattr(self, command)(*names, **options)
        return [tell(action) for _, _, actions in self.world.log[seen:] for action in actions]

    @property
    def w(self) -> World:
        assert self.world is not None
        return self.world

    def up(self, name: str) -> None:
        self.lives[name] = self.lives.get(name, 0) + 1
        self.w.up(spec(name, incarnation=f"{name}-{self.lives[name]}", **self.fields))

    def kill(self, name: str) -> None:
        self.w.kill(name)

    def arrive(
        self, id: str, prompt: int = 10, out: int = 3, prefix: int = 0, **objective: float
    ) -> None:
        ids = [*range(prefix), *request(id, prompt - prefix).token_ids]
        promised = Objective("x", **{f"{name}_s": v for name, v in objective.items()})
        self.w.arrive(request(id, ids, out, objective=promised, arrival_s=self.w.now))

    def cancel(self, id: str) -> None:
        self.w.cancel(id)
        self.pass_messages()

    def step(self, name: str, n: str = "1") -> None:
        for _ in range(int(n)):
            self.w.now += 0.01
            while self.w.deliver_to_instance(name):
                pass
            self.w.begin_step(name)
            self.w.end_step(name)
            while self.w.deliver_to_fleet(name):
                pass

    def settle(self) -> None:
        self.w.settle()

    def report(self, name: str) -> None:
        self.w.report(name)
        while self.w.deliver_to_fleet(name):
            pass

    def lose(self, name: str) -> None:
        self.w.to_instance[name].clear()

    def drain(self) -> None:
        self.w.tell(Draining())

    def wait(self, seconds: str) -> None:
        self.w.now += float(seconds)

    def tick(self) -> None:
        self.w.tell(Tick())

    def pass_messages(self) -> None:
        for name in self.w.instances:
            while self.w.deliver_to_instance(name):
                pass


def perform(text: str) -> Iterator[str]:
    """The play as it should read: comments and commands kept, answers made anew."""
    play, answers = Play(), False
    for line in text.splitlines():
        if line == "----":
            answers = True
        elif not line.strip():
            answers = False
            yield ""
        elif line.startswith("#"):
            yield line
        elif not answers:
            yield line
            if told := play.perform(line):
                yield "----"
                yield from told


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_play_goes_as_written(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    played = "\n".join(perform(text)) + "\n"
    if request.config.getoption("--rewrite"):
        path.write_text(played)
    assert played == (path.read_text() if request.config.getoption("--rewrite") else text)
