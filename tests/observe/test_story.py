"""From events and actions to a log, and from the log to stories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.model import ConfigError, InstanceId, Objective, Refused, RefuseWhy, RequestId
from fairlead.model import Preempted as PreemptedEvent
from fairlead.observe.instance_story import instance_story
from fairlead.observe.log import EventLog
from fairlead.observe.log_file import LogFile, older
from fairlead.observe.read_log import not_in_log, read_log
from fairlead.observe.story import RequestStory, Storyteller
from tests.strategies import request, spec
from tests.world import World, fleet

INTERACTIVE = Objective("interactive", ttft_s=0.5, tpot_s=0.05)
R1 = RequestId("r1")


def written(world: World, path: Path, max_bytes: int = 1 << 20) -> Path:
    """The log of everything that the world saw."""
    log = EventLog(LogFile(path, {"fleet": "test"}, print, max_bytes))
    for now, event, actions in world.log:
        log.observe(event, actions, now)
    log.close()
    return path


def told(path: Path, id: str) -> RequestStory:
    story = Storyteller(id).tell(read_log(path))
    assert story is not None
    return story


def text(story: RequestStory) -> str:
    return "\n".join(f"{moment.t_s:.2f} {moment.text}" for moment in story.moments)


def world(*names: str, **options: object) -> World:
    the_world = World(fleet(**options))  # type: ignore[arg-type]
    for name in names:
        the_world.up(spec(name))
    return the_world


def test_a_quiet_request_is_told_from_its_arrival_to_its_end(tmp_path: Path) -> None:
    w = world("a", "b")
    w.arrive(request("r0"))
    w.arrive(request("r1", objective=INTERACTIVE, tenant="alice"))
    w.settle()
    story = told(written(w, tmp_path / "log"), "r1")
    assert "interactive (TTFT 0.5 s, TPOT 0.05 s), 10 prompt tokens" in story.title
    assert "tenant alice" in story.title
    assert "sent to b: the routing policy's choice; it then held 0 requests, the others 1" in text(
        story
    )
    assert "first token from b" in text(story)
    assert "finished (length) with 5 output tokens" in text(story)
    assert story.verdict.startswith("objective met: TTFT 0.01 s of 0.5 s (0.49 s to spare)")


def test_a_lost_instance_is_told_with_where_its_stream_went_on(tmp_path: Path) -> None:
    w = world("a", "b")
    w.arrive(request("r1", out=6))
    for _ in range(3):
        w.now += 1.0
        w.deliver_to_instance("a")
        w.begin_step("a")
        w.end_step("a")
        w.deliver_to_fleet("a")
    w.kill("a")
    w.settle()
    path = written(w, tmp_path / "log")
    story = told(path, "r1")
    assert "sent to b, to go on at token 3: a was lost (killed)" in text(story)
    assert "went on at token 3 on b" in text(story)
    assert story.verdict.startswith("finished, and had no time objective")
    lost = instance_story("a", read_log(path))
    assert lost is not None
    marks = [moment.text for moment in lost.marks]
    assert marks == [
        "came up",
        "was lost: killed; it held 1 requests",
        "its requests went on: 1 on b",
    ]


def test_a_missed_objective_says_by_how_much(tmp_path: Path) -> None:
    w = world("a")
    w.arrive(request("r1", objective=INTERACTIVE))
    w.now = 2.0
    w.settle()
    story = told(written(w, tmp_path / "log"), "r1")
    assert story.verdict.startswith("objective missed: TTFT 2.01 s of 0.5 s (1.51 s over)")


def test_rejections_refusals_cancellations_and_preemptions_have_their_reasons(
    tmp_path: Path,
) -> None:
    w = world("a", "b")
    w.arrive(request("r1"))
    w.tell(PreemptedEvent(InstanceId("a"), R1, 1))
    w.tell(Refused(InstanceId("a"), R1, 1, RefuseWhy.QUEUE_FULL))
    w.cancel("r1")
    w.arrive(request("r2", model="other"))
    path = written(w, tmp_path / "log")
    story = text(told(path, "r1"))
    assert "preempted on a: its KV memory went to others" in story
    assert "refused by a: its queue was full" in story
    assert "sent to b: another instance had refused it" in story
    assert "its client had left" in story
    other = told(path, "r2")
    assert "rejected: no pool serves its model" in text(other)
    assert other.verdict == "objective missed: it did not finish"


def test_an_instance_is_told_in_periods_that_add_up(tmp_path: Path) -> None:
    w = world("a")
    for i in range(20):
        w.arrive(request(f"r{i}", out=2))
        w.settle()
        w.report("a")
        w.settle()
    story = instance_story("a", read_log(written(w, tmp_path / "log")))
    assert story is not None
    assert "KV blocks of 4 tokens" in story.title
    assert story.verdict == "20 came, 20 ended"
    came = [
        int(m.text.split(": ")[1].split(" came")[0]) for m in story.moments if " came," in m.text
    ]
    assert sum(came) == 20


def test_a_log_never_grows_beyond_its_bound_and_is_read_across_its_parts(tmp_path: Path) -> None:
    w = world("a")
    for i in range(40):
        w.arrive(request(f"r{i}", out=1))
        w.settle()
    whole = list(read_log(written(w, tmp_path / "whole")))
    path = written(w, tmp_path / "log", max_bytes=12_000)
    assert older(path).exists()
    assert path.stat().st_size + older(path).stat().st_size <= 12_000
    kept = list(read_log(path))
    assert kept == whole[-len(kept) :]
    assert len(kept) > 20
    # A new log does not inherit the older part of the one before.
    LogFile(path, {}, print).close()
    assert not older(path).exists()


def test_a_full_disk_ends_the_log_and_nothing_else() -> None:
    said: list[str] = []
    file = LogFile(Path("/dev/full"), {}, said.append)
    for _ in range(3):
        file.write({"t": 0.0, "what": "x", "filler": "y" * 70_000})
    file.close()
    assert len(said) == 1
    assert "No space left" in said[0]


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = written(world("a"), tmp_path / "log")
    with path.open("ab") as file:
        file.write(b'{"t":1.0,"what":"arr')
    assert [line["what"] for line in read_log(path)] == ["instance-up"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]\n", b'{"what":"other"}\n'])
def test_what_is_no_log_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no event log"):
        list(read_log(path))


def test_another_format_and_a_broken_line_are_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(json.dumps({"what": "log", "format": 99, "fairlead": "9.9"}) + "\n")
    with pytest.raises(ConfigError, match=r"format 99, written by Fairlead 9\.9"):
        list(read_log(path))
    written(world("a"), path)
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(ConfigError, match="line 3 is broken"):
        list(read_log(path))


def test_an_unknown_id_brings_the_nearest_one() -> None:
    known = dict.fromkeys(["r16", "r17", "h100-3"])
    assert "did you mean h100-3" in str(not_in_log(Path("l"), "h1003", known))
    assert "did you mean r17" in str(not_in_log(Path("l"), "17", known))
    assert "ids such as r16" in str(not_in_log(Path("l"), "zzzz", known))
