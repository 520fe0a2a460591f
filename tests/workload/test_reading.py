"""However a file is read, it says the same; whatever is wrong with it is said or counted."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model import ConfigError
from fairlead.workload import read_parquet, read_text
from fairlead.workload.cells import MOST_TOKENS
from fairlead.workload.columns import TraceColumns
from fairlead.workload.shape import Shape, ShapedTrace
from fairlead.workload.trace import Trace, TraceRow, open_trace

COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "client_id", "turn", "hash_ids")
cell_rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(0, 50)),
        st.one_of(st.none(), st.integers(-2, 9), st.just(10**9)),
        st.one_of(st.none(), st.integers(-1, 9)),
        st.sampled_from([None, "a", "b"]),
        st.one_of(st.none(), st.integers(0, 5)),
        st.lists(st.integers(0, 99), max_size=3),
    ),
    min_size=1,
    max_size=30,
)


def in_order(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    times = iter(sorted(row[0] for row in rows if row[0] is not None))  # type: ignore[type-var]
    return [row if row[0] is None else (next(times), *row[1:]) for row in rows]


def read(path: Path) -> tuple[list[TraceRow], Counter[str]]:
    trace = open_trace(path)
    return list(trace.rows()), trace.skipped


def expected(rows: list[tuple[object, ...]]) -> tuple[list[TraceRow], Counter[str]]:
    """A slow and obvious reading."""
    kept, skipped = [], Counter[str]()
    for index, (arrival, prompt, output, client, turn, ids) in enumerate(rows):
        why = None
        for name, n in (("prompt_tokens", prompt), ("output_tokens", output)):
            if why is None and n is None:
                why = f"{name} is missing"
            elif why is None and isinstance(n, int) and not 1 <= n <= MOST_TOKENS:
                how = "0" if n == 0 else "negative" if n < 0 else f"above {MOST_TOKENS:,}"
                why = f"{name} is {how}"
        if why is None and arrival is None:
            why = "arrival_s is missing"
        if why is not None:
            skipped[why] += 1
            continue
        row = TraceRow(index, arrival, prompt, output, tuple(ids), 512)  # type: ignore[arg-type]
        row.tenant = client or ""  # type: ignore[assignment]
        row.turn = turn  # type: ignore[assignment]
        kept.append(row)
    return kept, skipped


@given(rows=cell_rows)
def test_parquet_csv_and_json_lines_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]]
) -> None:
    """Empty cells send CSV through the reading cell by cell, and Parquet through arrays."""
    folder = tmp_path_factory.mktemp("t")
    rows = in_order(rows)
    kinds = [pa.float64(), pa.int64(), pa.int32(), pa.string(), pa.int32(), pa.list_(pa.int32())]
    arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows), kinds, strict=True)]  # noqa: B905
    pq.write_table(pa.table(arrays, names=list(COLUMNS)), folder / "t.parquet")
    (folder / "t.jsonl").write_text(
        "\n".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in rows)
    )
    lines = [",".join("" if c is None else str(c).replace(",", "") for c in row) for row in rows]
    (folder / "t.csv").write_text("\n".join([",".join(COLUMNS), *lines]))
    for name in ("t.parquet", "t.jsonl", "t.csv"):
        assert read(folder / name) == expected(rows), name


@pytest.mark.parametrize("n_rows", [1, 2, 3, 1000])
def test_the_size_of_a_part_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_rows: int
) -> None:
    path = tmp_path / "t.parquet"
    draw = random.Random(1)
    table = {
        "arrival_s": [0.5 * i for i in range(50)],
        "prompt_tokens": [draw.randrange(-1, 50) for _ in range(50)],
        "output_tokens": [1] * 50,
    }
    pq.write_table(pa.table(table), path)
    whole = read(path)
    monkeypatch.setattr(read_parquet, "PART_ROWS", n_rows)
    monkeypatch.setattr(read_text, "PART_ROWS", n_rows)
    assert read(path) == whole
    shaped = ShapedTrace(open_trace(path), Shape(window_s=(3, 20), limit=20, rate_rps=7))
    rows = list(shaped.rows())
    assert len(rows) == 20 == shaped.n_rows
    assert 19 / (rows[-1].arrival_s or 0) == pytest.approx(7)


def test_rows_of_parquet_are_never_made_to_find_the_extent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    table = {"arrival_s": [0.0, 4.0], "prompt_tokens": [1, 2], "output_tokens": [1, 2]}
    pq.write_table(pa.table({**table, "client_id": ["a", "b"]}), path)

    def never(_: TraceColumns) -> None:
        raise AssertionError("rows were made")

    monkeypatch.setattr(TraceColumns, "rows", never)
    assert ShapedTrace(open_trace(path), Shape()).extent.last_s == 4.0


def test_dates_are_read_alike_with_and_without_a_zone(tmp_path: Path) -> None:
    stamps = ["2024-05-10 00:00:00.009930", "2024-05-10 00:00:01.5", "2024-05-11 00:00:01"]
    times = {}
    for zone in ("", "+00:00", "Z"):
        path = tmp_path / f"t{zone[:1]}.csv"
        lines = "".join(f"{stamp}{zone},1,1\n" for stamp in stamps)
        path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + lines)
        times[zone] = [row.arrival_s for row in read(path)[0]]
    assert times[""] == pytest.approx([0.0, 1.49007, 86400.99007], abs=1e-9)
    assert times["+00:00"] == pytest.approx(times[""], abs=1e-9)
    assert times["Z"] == pytest.approx(times[""], abs=1e-9)


def test_a_part_of_dates_may_be_followed_by_an_odd_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of reading share one clock."""
    monkeypatch.setattr(read_text, "PART_ROWS", 2)
    path = tmp_path / "t.csv"
    lines = "".join(
        f"2024-05-10 00:00:0{i}{zone},1,1\n" for i, zone in enumerate(["", "", "Z", "", "", "Z"])
    )
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + lines)
    assert [row.arrival_s for row in read(path)[0]] == [0, 1, 2, 3, 4, 5]


def test_a_column_of_moments_in_parquet(tmp_path: Path) -> None:
    moments = [datetime(2024, 5, 10, 0, 0, second) for second in (0, 2, 5)]
    table = {"arrival_s": moments, "prompt_tokens": [1, 1, 1], "output_tokens": [1, 1, 1]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    assert [row.arrival_s for row in read(tmp_path / "t.parquet")[0]] == [0, 2, 5]


def test_dictionaries_and_empty_lists_in_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt_tokens": pa.array([1, 2, 3], pa.uint8()),
            "output_tokens": pa.array([1.0, 2.0, float("nan")]),
            "model": pa.array(["a", None, "a"]).dictionary_encode(),
            "hash_ids": pa.array([[1], None, [2]], pa.large_list(pa.int64())),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    rows, skipped = read(tmp_path / "t.parquet")
    assert [(row.model, row.hash_ids) for row in rows] == [("a", (1,)), ("", ())]
    assert skipped == {"output_tokens is missing": 1}


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"\x00" * 5000, "is not text"),
        ("t.csv", bytes(range(256)) * 40, "is not text"),
        ("t.parquet", bytes(range(256)) * 40, "not a readable Parquet file"),
        ("t.jsonl", b'{"prompt_tokens": [1], "output_tokens": 1}\n', r"is \[1\], expected a num"),
        ("t.jsonl", b'{"prompt_tokens": {"a": 1}, "output_tokens": 1}\n', "expected a number"),
        ("t.jsonl", b'[{"prompt_tokens": 1, "output_tokens": 1}]\n', "not a JSON object"),
        ("t.csv", b"prompt_tokens,prompt_tokens,output_tokens\n1,1,1\n", "more than one column"),
        ("t.csv", b"rate_rps,cv\n1,1\n", "fairlead workload make --servegen"),
        ("t.csv", b"prompt_tokens,output_tokens\n1,1\n2\n", "line 3: 1 values, expected 2"),
        ("t.csv", b'prompt_tokens,output_tokens\n1,"1\n' + b"1,1\n" * 40_000, "not readable CSV"),
        ("t.csv", b"prompt_tokens,output_tokens,turn\n1,1,soon\n", "turn is 'soon'"),
        ("t.csv", b"prompt_tokens,output_tokens,hash_runs\n1,1,1 -4\n", "impossible count"),
        ("t.csv", b"prompt_tokens,output_tokens,hash_runs\n1,1,1 99999999999\n", "impossible"),
        ("t.csv", b"a" * 90 + b",b\n1,1\n", r"it has: a{37}\.\.\., b"),
    ],
)
def test_a_bad_file_gets_a_clear_message(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read(path)


def test_a_line_without_an_end_is_not_read_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_text, "LONGEST_LINE", 1000)
    for text in ("x" * 5000, "prompt_tokens,output_tokens\n" + "1" * 5000):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(ConfigError, match="a line of more than 1,000 characters"):
            read(tmp_path / "t.csv")


def test_lengths_beyond_all_sense_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    lengths = (5, MOST_TOKENS, MOST_TOKENS + 1, 10**30, 10**400, -(10**400))
    path.write_text("\n".join(f'{{"prompt_tokens": {n}, "output_tokens": 1}}' for n in lengths))
    rows, skipped = read(path)
    assert [row.prompt_tokens for row in rows] == [5, MOST_TOKENS]
    assert skipped == {"prompt_tokens is above 100,000,000": 3, "prompt_tokens is negative": 1}


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 50])
def test_only_rows_up_to_the_limit_are_counted_as_left_out(
    tmp_path: Path, name: str, limit: int
) -> None:
    """Also where the CSV's empty cells send it through the reading cell by cell."""
    lengths = [1, 0, 1, None, -1, 1, 0, 1, 1, 0, 1, 1, 1, 0]
    path = tmp_path / name
    if name == "t.csv":
        lines = "".join(f"{'' if n is None else n},1\n" for n in lengths)
        path.write_text("prompt_tokens,output_tokens\n" + lines)
    else:
        pq.write_table(pa.table({"prompt_tokens": lengths, "output_tokens": [1] * 14}), path)
    trace = open_trace(path)
    rows = list(ShapedTrace(trace, Shape(limit=limit, rate_rps=1)).rows())
    kept = [index for index, n in enumerate(lengths) if n is not None and n > 0]
    assert [row.index for row in rows] == kept[:limit]
    last = 13 if limit > len(kept) else rows[-1].index
    assert trace.skipped.total() == last + 1 - len(rows)


def test_spelt_out_emptiness_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = ["0,nan,1", "1,NA,1", "2,1,null", "nan,1,1", "3,1,1"]
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]))
    rows, skipped = read(path)
    assert [row.arrival_s for row in rows] == [3]
    assert skipped.total() == 4


def test_infinity_is_an_error_in_every_format(tmp_path: Path) -> None:
    table = {"arrival_s": [0.0, np.inf], "prompt_tokens": [1, 1], "output_tokens": [1, 1]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match="row 2: arrival_s is inf, expected a finite number"):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize("kind", [pa.string(), pa.bool_(), pa.list_(pa.string()), pa.float64()])
def test_a_column_of_the_wrong_type_is_an_error_or_a_number(tmp_path: Path, kind: object) -> None:
    values = {pa.string(): ["12"], pa.bool_(): [True], pa.float64(): [1.5]}
    column = pa.array(values.get(kind, [["a"]]), kind)
    table = pa.table({"prompt_tokens": column, "output_tokens": [1]})
    pq.write_table(table, tmp_path / "t.parquet")
    if kind in (pa.string(), pa.bool_()):
        assert read(tmp_path / "t.parquet")[0][0].prompt_tokens in (12, 1)
    else:
        with pytest.raises(ConfigError, match="row 1: prompt_tokens is"):
            read(tmp_path / "t.parquet")


def test_a_broken_parquet_file_is_a_message_or_a_trace_but_never_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = {
        "arrival_s": [float(i) for i in range(300)],
        "prompt_tokens": list(range(1, 301)),
        "output_tokens": [1] * 300,
        "session_id": [f"s{i // 7}" for i in range(300)],
        "hash_ids": [[i, i + 1] for i in range(300)],
    }
    pq.write_table(pa.table(table), path, compression="zstd")
    whole = path.read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        if draw.random() < 0.3:
            del data[draw.randrange(len(data)) :]
        for _ in range(draw.choice((1, 4, 20))):
            if data:
                data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            read(path)
        except ConfigError:
            refused += 1
    assert refused > 50


def test_a_long_csv_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the file, only one part of it is held."""
    monkeypatch.setattr(read_text, "PART_ROWS", 100)
    path = tmp_path / "t.csv"
    with path.open("w") as file:
        file.write("arrival_s,prompt_tokens,output_tokens\n")
        file.writelines(f"{i},{1 + i % 50},1\n" for i in range(20_000))
    trace: Trace = open_trace(path)
    parts = trace.parts()
    assert [len(next(parts)) for _ in range(3)] == [100] * 3
    assert max(map(len, parts)) == 100
    rows = ShapedTrace(trace, Shape(limit=150)).rows()
    assert [row.index for row in rows] == list(range(150))
