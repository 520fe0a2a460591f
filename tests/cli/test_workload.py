"""`fairlead workload` says what a trace is like, and makes ones that read back as asked."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fairlead.cli.description_table import bars_of
from fairlead.cli.main import main
from fairlead.workload.shape import Shape, ShapedTrace
from fairlead.workload.trace import open_trace

SHARED = Path(__file__).parents[2] / ".." / "shared" / "traces"
LENGTHS = ["--prompt", "lognormal:median=300,sigma=1", "--output", "exp:mean=50"]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command printed, having gone well."""
    assert main(["workload", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["workload", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_a_description_fits_a_terminal_and_tells_the_load(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = said(capsys, "describe", "azure-conv-slice")
    assert max(len(line) for line in text.splitlines()) <= 80
    for words in ("requests   400", "3.752/s over 106 s", "CC-BY-4.0", "prompt", "over time"):
        assert words in text


def test_a_description_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "describe", "azure-conv-slice", "--json", "--limit", "100"))
    assert found["rows"] == 100
    assert found["prompt_tokens"]["max"] > found["prompt_tokens"]["p50"]
    assert found["metadata"]["licence"].startswith("CC-BY-4.0")
    assert found["skipped"] == {}


def test_what_was_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("when,in,out\n0,5,5\n1,0,5\n2,5,\n3,7,7\n")
    text = said(capsys, "describe", str(path), "--columns", "arrival=when,prompt=in,output=out")
    assert "1 rows: prompt_tokens is 0" in text
    assert "1 rows: output_tokens is missing" in text


def test_a_window_is_described_alone(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("describe", "azure-conv-slice", "--json", "--window", "60:90")
    found = json.loads(said(capsys, *words))
    assert found["arrivals"]["first_s"] >= 60
    assert found["arrivals"]["span_s"] <= 30


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_what_is_made_reads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    path = tmp_path / f"t{suffix}"
    words = ["make", "--arrivals", "gamma:rate=5,cv=2", *LENGTHS, "--duration", "200"]
    words += ["--prefixes", "system:n=4,tokens=160", "--seed", "3"]
    text = said(capsys, *words, "--out", str(path))
    assert "prefixes" in text
    trace = open_trace(path)
    rows = list(trace.rows())
    assert len(rows) == pytest.approx(1000, rel=0.2)
    assert trace.metadata["seed"] == "3"
    assert trace.metadata["clock"] == "global"
    assert rows[0].hash_block_tokens == 16
    assert {len(row.hash_ids) for row in rows} == {10}
    assert 200 > (rows[-1].arrival_s or 0) > 150
    assert not list(tmp_path.glob(".*")), "no draft is left behind"


def test_equal_seeds_make_equal_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        path = tmp_path / f"{name}.parquet"
        words = ["make", "--arrivals", "bursts:rate=9", *LENGTHS, "--requests", "500"]
        said(capsys, *words, "--seed", seed, "--quiet", "--out", str(path))
        tables.append(pq.read_table(path))
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_lengths_of_another_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.parquet"
    words = ["make", "--arrivals", "constant:rate=10", "--lengths", "azure-conv-slice"]
    said(capsys, *words, "--requests", "300", "--out", str(path))
    seen = {(row.prompt_tokens, row.output_tokens) for row in open_trace("azure-conv-slice").rows()}
    made = [(row.prompt_tokens, row.output_tokens) for row in open_trace(path).rows()]
    assert len(made) == 300
    assert set(made) <= seen


def test_conversations_are_played_in_a_closed_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chat.parquet"
    words = ["make", "--sessions", "40", "--turns", "3", "--gap", "7", *LENGTHS]
    assert "sessions" in said(capsys, *words, "--out", str(path))
    trace = ShapedTrace(open_trace(path), Shape(rate_rps=2), closed_loop=True)
    first = next(trace.rows())
    second = trace.follow(first, 100.0)
    assert second is not None
    assert second.arrival_s == pytest.approx(107.0)
    assert trace.n_rows == 120


@pytest.mark.skipif(not SHARED.exists(), reason="the shared traces are not on this machine")
def test_a_published_service_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.parquet"
    words = ["make", "--servegen", str(SHARED / "servegen_mm_image"), "--window", "600:1800"]
    text = said(capsys, *words, "--rate", "2", "--out", str(path))
    rows = list(open_trace(path).rows())
    assert len(rows) == pytest.approx(2400, rel=0.02)
    assert len({row.tenant for row in rows}) > 5
    assert "tenants" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arrivals", "poisson:rate=5", *LENGTHS], "--duration S or --requests N"),
        (["--duration", "5", *LENGTHS], "say when requests arrive"),
        (["--arrivals", "poisson:rate=5", "--duration", "5"], "say how long prompts"),
        (["--arrivals", "poisson:rate=5", "--duration", "-5", *LENGTHS], "--duration must be"),
        (["--arrivals", "poisson:rate=1e9", "--duration", "9e9", *LENGTHS], "at most"),
        (["--arrivals", "poisson:rate=1", "--duration", "1e-9", *LENGTHS], "nothing was drawn"),
        (["--sessions", "5", "--requests", "5", *LENGTHS], "--requests says nothing beside"),
        (["--servegen", "x", "--prompt", "5"], "--prompt says nothing beside --servegen"),
        (["--servegen", "x"], "there is no file x_rates.parquet"),
        (["--arrivals", "poisson:rate=5", "--rate", "5", *LENGTHS], "--rate says nothing"),
    ],
)
def test_a_bad_wish_gets_a_clear_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert message in refused(capsys, "make", *words, "--out", str(tmp_path / "t.parquet"))
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_place_that_takes_no_trace_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["make", "--arrivals", "poisson:rate=5", "--requests", "5", *LENGTHS, "--out"]
    assert "ends in .parquet or .csv" in refused(capsys, *words, str(tmp_path / "t.txt"))
    assert "there is no folder" in refused(capsys, *words, str(tmp_path / "no" / "t.csv"))
    (tmp_path / "d.csv").mkdir()
    assert "is a folder" in refused(capsys, *words, str(tmp_path / "d.csv"))


def test_bars_stand_for_values() -> None:
    assert bars_of([0, 1, 4, 8]) == " ▂▅█"
    assert bars_of([0, 0]) == "  "
    assert bars_of([]) == ""
