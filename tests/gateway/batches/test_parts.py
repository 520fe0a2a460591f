"""The parts of a batch, one by one."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from random import Random

import msgspec
import pytest

from fairlead.gateway.batches import lines
from fairlead.gateway.batches.done import Done
from fairlead.gateway.batches.form import Form
from fairlead.gateway.batches.lines import Broken, Line
from fairlead.gateway.batches.reader import Census, Reader
from fairlead.gateway.batches.results import Results, TakenError
from fairlead.model import RequestError
from fairlead.store.batch import Checkpoint

URL = "/v1/completions"
ROW = {"custom_id": "a", "method": "POST", "url": URL, "body": {"model": "m", "prompt": "x"}}


def result(n: int) -> bytes:
    return lines.answered("batch_ab12", n, f"c{n}", 200, "cmpl-1", b'{"text":"x"}')


def test_what_is_kept_of_done_lines_does_not_grow_with_the_batch() -> None:
    rng, done = Random(3), Done()
    window: list[int] = []
    for n in range(5000):
        done.read(n, (n + 1) * 10)
        window.append(n)
        if len(window) > 50:
            done.add(window.pop(rng.randrange(50)))
        assert done.low == min(window)
        assert len(done.ahead) < 1000
    for n in window:
        done.add(n)
    assert (done.low, done.low_offset, done.ahead) == (5000, 50_000, set())


def test_no_line_is_done_twice() -> None:
    done = Done(3, 30, [5])
    for n in (0, 2, 5):
        assert n in done
        with pytest.raises(AssertionError):
            done.add(n)


def test_a_line_is_run_again_with_the_seed_that_it_had() -> None:
    def seed(row: dict[str, object], n: int, batch: str = "batch_1") -> int:
        line = lines.parse(msgspec.json.encode(row), n, batch, URL, "batch")
        assert isinstance(line, Line)
        return int(json.loads(line.body)["seed"])

    assert seed(ROW, 7) == seed(ROW, 7)
    assert len({seed(ROW, 7), seed(ROW, 8), seed(ROW, 7, "batch_2")}) == 3
    assert seed({**ROW, "body": {"seed": 5}}, 7) == 5


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b"", "invalid_json_line"),
        (b"\xff\xfe", "invalid_json_line"),
        (b"[1]", "invalid_json_line"),
        (b"[" * 100_000, "invalid_json_line"),
        (json.dumps({**ROW, "body": 1}).encode(), "invalid_json_line"),
        (json.dumps({**ROW, "custom_id": ""}).encode(), "invalid_custom_id"),
        (json.dumps({**ROW, "custom_id": "x" * 513}).encode(), "invalid_custom_id"),
        (json.dumps({**ROW, "method": "GET"}).encode(), "invalid_method"),
        (json.dumps({**ROW, "url": "http://169.254.169.254/"}).encode(), "mismatched_endpoint"),
    ],
)
def test_a_line_that_is_no_request_says_why(row: bytes, code: str) -> None:
    line = lines.parse(row, 0, "batch_1", URL, "batch")
    assert isinstance(line, Broken)
    assert line.error.code == code


def test_names_with_tricks_stay_inside_their_line() -> None:
    name = 'x"},\n{"id":"batch_req_ab12_9'
    row = lines.answered("batch_ab12", 4, name, 200, "r", b"{}")
    assert row.count(b"\n") == 1
    assert lines.number_of(row) == 4
    assert json.loads(row)["custom_id"] == name


def test_reading_goes_on_from_any_line(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"\n".join(b"%d" % i + b"x" * (i % 7) for i in range(1000)) + b"\n\n\n")
    whole = []
    reader = Reader(path, 0, 0, 100)
    while some := reader.some():
        whole += some
    assert [raw.n for raw in whole] == list(range(1000))
    for raw in whole[::97]:
        after = Reader(path, raw.n + 1, raw.end, 100).some()
        assert after[:5] == whole[raw.n + 1 : raw.n + 6]


def test_a_line_that_is_too_long_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"short\n" + b"x" * 5_000_000 + b"\nlast")
    found = Reader(path, 0, 0, 1000).some()
    assert [(raw.n, raw.is_whole) for raw in found] == [(0, True), (1, False), (2, True)]
    assert len(found[1].data) <= 1001
    assert found[2].data == b"last"


def test_the_census_finds_names_that_two_lines_share(tmp_path: Path) -> None:
    path = tmp_path / "in"
    names = ["a", "b", "", "", "a", "c", "b"]
    path.write_text("\n".join(json.dumps({"custom_id": name}) for name in names))
    census = Census(path, 10, 1000)
    while census.step():
        pass
    assert census.n == 7
    assert census.repeated() == [(4, "a"), (6, "b")]


def results(folder: Path) -> Results:
    return Results(folder / "output", folder / "error")


def test_a_torn_line_is_taken_away_and_run_again(tmp_path: Path) -> None:
    """Killed at every byte of the last write."""
    first = results(tmp_path)
    first.write([result(0), result(2)], [lines.failed("batch_ab12", 1, None, "bad", "why")])
    first.close()
    whole = (tmp_path / "output").read_bytes()
    for cut in range(len(whole) + 1):
        (tmp_path / "output").write_bytes(whole[:cut])
        again = results(tmp_path)
        done = again.recover(Checkpoint())
        expected = {n for n, end in ((0, len(result(0))), (2, len(whole))) if end <= cut} | {1}
        assert {n for n in range(3) if n in done} == expected
        assert again.completed + again.failed == len(expected)
        rest = [result(n) for n in range(3) if n not in done]
        again.write(rest, [])
        again.close()
        rows = (tmp_path / "output").read_bytes().splitlines(keepends=True)
        assert sorted(rows) == sorted([result(0), result(2)])


def test_recovery_reads_what_is_behind_the_checkpoint_only(tmp_path: Path) -> None:
    first = results(tmp_path)
    first.write([result(n) for n in range(10)], [])
    saved = Checkpoint(8, 800, (9,), first.output_bytes, 0, 9, 0)
    first.write([result(8), result(11)], [])
    first.close()
    again = results(tmp_path)
    done = again.recover(saved)
    assert [n for n in range(13) if n not in done] == [10, 12]
    assert again.completed == 11
    again.close()


def test_only_one_process_writes_results(tmp_path: Path) -> None:
    first = results(tmp_path)
    with pytest.raises(TakenError):
        results(tmp_path)
    first.close()
    results(tmp_path).close()


def test_a_disk_without_room_changes_nothing(tmp_path: Path) -> None:
    writer = results(tmp_path)
    writer.write([result(0)], [])
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * len(result(0)), usual[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            writer.write([result(1)], [result(2)] * 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert (tmp_path / "error").read_bytes() == b""
    assert (tmp_path / "output").read_bytes() == result(0)
    assert writer.completed == 1
    writer.write([result(1)], [])
    assert (tmp_path / "output").read_bytes() == result(0) + result(1)
    writer.close()


def form(body: bytes, pieces: int) -> tuple[Form, bytes]:
    found: list[bytes] = []
    made = Form(b"multipart/form-data; boundary=b", found.append)
    for i in range(0, len(body), pieces):
        made.feed(body[i : i + pieces])
    return made, b"".join(found)


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
def test_a_form_is_the_same_in_pieces_of_any_size(pieces: int) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\n'
        b'content-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        b"one\r\n--not the end\r\ntwo\r\n--b--\r\n"
    )
    made, data = form(body, pieces)
    assert made.is_whole
    assert made.fields == {"purpose": "batch"}
    assert made.filename == "a.jsonl"
    assert data == b"one\r\n--not the end\r\ntwo"


@pytest.mark.parametrize(
    "part",
    [
        b'content-disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 5000,
        b"x: " + b"y" * 20_000 + b"\r\n\r\n",
    ],
)
def test_a_form_that_would_take_memory_is_refused(part: bytes) -> None:
    with pytest.raises(RequestError):
        form(b"--b\r\n" + part, 1000)
