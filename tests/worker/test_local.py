"""Real worker processes: started, killed, started again, drained; none is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from fairlead.cli.main import main
from fairlead.model import ConfigError
from fairlead.worker import kept, local
from fairlead.worker.local import LocalFleet
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.wire import Frame, Goodbye, Hello, Submit
from tests.patience import PATIENCE_S
from tests.worker.fakes import (
    FakeGateway,
    WorkerLine,
    a_gateway,
    a_request,
    tokens_of,
)


def emulated(gateway: FakeGateway, name: str = "i0") -> WorkerSettings:
    return WorkerSettings(
        join=str(gateway.address),
        model="fairlead-nano",
        engine="emulated",
        hardware="h100-llama-3.1-8b",
        name=name,
        speed=20.0,
    )


@asynccontextmanager
async def keeping(fleet: LocalFleet) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(fleet.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def joined_line(gateway: FakeGateway) -> tuple[WorkerLine, Hello]:
    line = await gateway.line()
    return line, await line.welcome()


async def test_a_killed_worker_is_started_again_and_a_stopped_one_drains() -> None:
    told: list[str] = []
    async with a_gateway() as gateway:
        fleet = LocalFleet([emulated(gateway)], "secret", tell=told.append)
        async with keeping(fleet) as task:
            line, hello = await joined_line(gateway)
            assert (hello.token, hello.spec.id) == ("secret", "i0")
            command_line = " ".join(psutil.Process(fleet.pids["i0"]).cmdline())
            assert "secret" not in command_line

            first = fleet.pids["i0"]
            os.kill(first, signal.SIGKILL)
            line, again = await joined_line(gateway)
            assert fleet.pids["i0"] != first
            assert again.spec.incarnation != hello.spec.incarnation
            assert any("i0: was killed by SIGKILL" in line for line in told)

            line.say(Submit(a_request(max_tokens=400), 1, []))
            await line.hear(Frame)
            stop = asyncio.ensure_future(fleet.stop(PATIENCE_S))
            frames = await line.hear_end_of("r1")
            assert len(tokens_of(line_frames(line))) == 400
            assert frames
            assert (await line.hear(Goodbye)).why == "drained"
            await stop
            await task
        assert not fleet.pids


async def test_no_more_workers_are_made_than_this_machine_is_to_run() -> None:
    told: list[str] = []
    async with a_gateway() as gateway:
        one = emulated(gateway)
        more = lambda pool, i: replace(one, name=f"more{i}")  # noqa: E731
        fleet = LocalFleet([one], "secret", tell=told.append, more=more, most=2)
        async with keeping(fleet) as task:
            await joined_line(gateway)
            fleet.scale(one.pool, 9)
            await joined_line(gateway)
            assert sorted(fleet.pids) == ["i0", "more1"]
            assert f"{one.pool} is to have 9 workers; all in all 2 run here at most" in told
            await fleet.stop(PATIENCE_S)
            await task


def test_a_fleet_beyond_the_machine_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.toml"
    path.write_text('[[pool]]\nengine = "emulated"\ninstances = 65\n')
    assert main(["serve", str(path)]) == 2
    assert "65 instances, and this machine runs 64 at most" in capsys.readouterr().err


def line_frames(line: WorkerLine) -> list[Frame]:
    return [message for message in line.heard if isinstance(message, Frame)]


async def test_workers_do_not_outlive_the_process_that_started_them() -> None:
    """Even one that is killed without a chance to tidy up."""
    parent = """
import asyncio, sys
from fairlead.worker.settings import WorkerSettings
from fairlead.worker.local import LocalFleet
settings = WorkerSettings(
    join=sys.argv[1], model="fairlead-nano", engine="emulated", hardware="h100-llama-3.1-8b"
)
asyncio.run(LocalFleet([settings], "secret").run())
"""
    async with a_gateway() as gateway:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", parent, str(gateway.address), cwd=Path(__file__).parents[2]
        )
        _, hello = await joined_line(gateway)
        (child,) = psutil.Process(process.pid).children()
        assert hello.token == "secret"
        process.kill()
        await process.wait()
        await until(lambda: is_gone(child.pid))


async def test_a_worker_that_cannot_start_says_why_in_one_message() -> None:
    settings = WorkerSettings(join="127.0.0.1:1", model="./no/such/folder", name="i0")
    fleet = LocalFleet([settings], "secret")
    with pytest.raises(ConfigError) as caught:
        await fleet.run()
    message = str(caught.value)
    assert message.startswith("worker i0 cannot start: model folder './no/such/folder' does not")
    assert "Traceback" not in message


async def test_a_refused_token_is_not_tried_again() -> None:
    given_up: list[tuple[str, str]] = []
    async with a_gateway() as gateway:
        fleet = LocalFleet(
            [emulated(gateway)],
            "wrong",
            gave_up=lambda name, error: given_up.append((name, str(error))),
        )
        async with keeping(fleet) as task:
            line = await gateway.line()
            await line.hear(Hello)
            line.say(Goodbye("wrong token"))
            await asyncio.wait_for(task, PATIENCE_S)
    assert given_up[0][0] == "i0"
    assert given_up[0][1].endswith("refused this worker: wrong token")


async def test_a_worker_that_dies_again_and_again_is_given_up_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept, "FIRST_DELAY_S", 0.001)
    told: list[str] = []
    dying = (sys.executable, "-S", "-c", "import sys; sys.exit('the disk is on fire')")
    settings = WorkerSettings(join="h:1", model="m", name="i0")
    fleet = LocalFleet([settings], "secret", tell=told.append, command=dying)
    with pytest.raises(ConfigError, match="the disk is on fire"):
        await fleet.run()
    assert sum("the disk is on fire" in line for line in told) == kept.MAX_QUICK_DEATHS


async def test_one_that_does_not_drain_in_time_is_killed() -> None:
    stubborn = (
        sys.executable,
        "-S",
        "-c",
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', file=sys.stderr, flush=True); time.sleep(1000)",
    )
    told: list[str] = []
    settings = WorkerSettings(join="h:1", model="m", name="i0")
    fleet = LocalFleet([settings], "secret", tell=told.append, command=stubborn)
    async with keeping(fleet) as task:
        await until(lambda: "i0: up" in told)
        pid = fleet.pids["i0"]
        await fleet.stop(0.01)
        await task
        assert is_gone(pid)


async def test_stopping_what_never_ran_returns() -> None:
    await LocalFleet([], "secret").stop(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--join", "h:1", "--model", "m", "--engine", "vllm", "--device", "cuda"],
            "device is for embedded engines",
        ),
        (["--join", "nowhere", "--model", "m"], "expected HOST:PORT"),
        (["--join", "h:1", "--model", "m", "--batching-params", "{"], "is not JSON"),
        (["--join", "h:1", "--model", "m", "--batching-params", "[1]"], "must be a JSON object"),
        (["--join", "h:1", "--model", "m", "--token-file", "/nowhere"], "cannot read the token"),
        (["--join", "h:1", "--model", "fairlead-nano", "--batching", "fcsf"], "mean 'fcfs'"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_two(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["worker", *arguments]) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ")
    assert message in said


async def test_sigterm_drains_a_worker_started_by_hand(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("from a file\n")
    async with a_gateway() as gateway:
        process = await asyncio.create_subprocess_exec(
            *local.COMMAND,
            *emulated(gateway).arguments(),
            f"--token-file={token}",
            stderr=subprocess.PIPE,
        )
        line, hello = await joined_line(gateway)
        assert hello.token == "from a file"
        line.say(Submit(a_request(max_tokens=300), 1, []))
        await line.hear(Frame)
        process.terminate()
        await line.hear_end_of("r1")
        assert len(tokens_of(line_frames(line))) == 300
        await line.hear(Goodbye)
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 0
        assert said.decode().splitlines()[-2:] == ["draining", "drained"]


async def test_a_second_signal_leaves_at_once() -> None:
    async with a_gateway() as gateway:
        process = await asyncio.create_subprocess_exec(
            *local.COMMAND, *emulated(gateway).arguments(), stderr=subprocess.PIPE
        )
        line, _ = await joined_line(gateway)
        line.say(Submit(a_request(max_tokens=100_000), 1, []))
        await line.hear(Frame)
        process.terminate()
        assert process.stderr is not None
        while await asyncio.wait_for(process.stderr.readline(), PATIENCE_S) != b"draining\n":
            pass
        process.terminate()
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 1
