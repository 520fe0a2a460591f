"""Traces are read row by row, in every published layout, and complain clearly."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.model import ConfigError
from fairlead.workload.layouts import parse_columns
from fairlead.workload.trace import TraceRow, open_trace

SHARED = Path(__file__).parents[2] / ".." / "shared" / "traces"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def parquet(path: Path, columns: dict[str, list[object]], **metadata: str) -> Path:
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, path)
    return path


def rows_of(path: Path | str, **options: object) -> list[TraceRow]:
    return list(open_trace(path, **options).rows())  # type: ignore[arg-type]


def test_the_shipped_slice_is_a_minute_and_more_of_a_real_trace() -> None:
    trace = open_trace("azure-conv-slice")
    rows = list(trace.rows())
    assert len(rows) == 400
    assert rows[0].arrival_s == 0
    assert rows[-1].arrival_s == pytest.approx(106.33, abs=0.01)
    assert trace.metadata["licence"].startswith("CC-BY-4.0")
    assert not trace.skipped


def test_azure_time_stamps_become_seconds_from_the_first_row(tmp_path: Path) -> None:
    path = written(
        tmp_path / "azure.csv",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 23:59:59.9999999,374,44\n"
        "2023-11-17 00:00:01.0000001,396,109\n"
        "2023-11-17 00:00:02,5,6\n",
    )
    rows = rows_of(path)
    assert [row.arrival_s for row in rows] == pytest.approx([0, 1.0000002, 2.0000001])
    assert (rows[0].prompt_tokens, rows[0].output_tokens) == (374, 44)


def test_azure_stamps_of_2024_carry_a_zone(tmp_path: Path) -> None:
    path = written(
        tmp_path / "azure.csv",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.5+00:00,1,1\n2024-05-10 00:00:02.25+00:00,1,1\n",
    )
    first, second = rows_of(path)
    assert second.arrival_s - first.arrival_s == pytest.approx(1.75)  # type: ignore[operator]


def test_burstgpt_rows_that_failed_are_left_out_and_counted(tmp_path: Path) -> None:
    path = written(
        tmp_path / "burst.csv",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n"
        "45,GPT-4,1087,0,1087,API log\n"
        "118,ChatGPT,417,276,693,API log\n",
    )
    trace = open_trace(path)
    rows = list(trace.rows())
    assert [(row.index, row.arrival_s, row.model, row.category) for row in rows] == [
        (0, 5, "ChatGPT", "Conversation log"),
        (2, 118, "ChatGPT", "API log"),
    ]
    assert trace.skipped == {"output_tokens is 0": 1}


def test_mooncake_counts_milliseconds_and_blocks_of_512(tmp_path: Path) -> None:
    line = {"timestamp": 3052, "input_length": 700, "output_length": 5, "hash_ids": [4, 9]}
    path = written(tmp_path / "mooncake.jsonl", json.dumps(line) + "\n\n")
    (row,) = rows_of(path)
    assert row.arrival_s == pytest.approx(3.052)
    assert (row.hash_ids, row.hash_block_tokens) == ((4, 9), 512)


def test_bailian_looks_like_mooncake_but_counts_seconds_and_blocks_of_16(tmp_path: Path) -> None:
    line = {
        "chat_id": 7,
        "timestamp": 61.5,
        "input_length": 40,
        "output_length": 5,
        "type": "text",
        "turn": 1,
        "hash_ids": [1, 2],
    }
    (row,) = rows_of(written(tmp_path / "q.jsonl", json.dumps(line)))
    assert (row.arrival_s, row.hash_block_tokens, row.category) == (61.5, 16, "text")


def test_named_columns_read_a_layout_of_ones_own(tmp_path: Path) -> None:
    path = written(tmp_path / "own.csv", "when,in,out,who\n1500,3,4,alice\n")
    columns = parse_columns("arrival_ms=when,prompt=in,output=out,tenant=who")
    (row,) = rows_of(path, columns=columns)
    assert (row.arrival_s, row.prompt_tokens, row.tenant) == (1.5, 3, "alice")


def test_unix_times_start_with_the_first_row(tmp_path: Path) -> None:
    path = written(
        tmp_path / "unix.csv",
        "arrival_s,prompt_tokens,output_tokens\n1700000000.5,1,1\n1700000002,1,1\n",
    )
    assert [row.arrival_s for row in rows_of(path)] == [0, 1.5]


def test_the_common_schema_in_parquet_with_its_labels(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "t.parquet",
        {
            "arrival_s": [0.0, 1.5],
            "prompt_tokens": [40, 20],
            "output_tokens": [3, 4],
            "session_id": ["s", "s"],
            "turn": [0, 1],
            "client_id": [12, None],
            "priority": [1, None],
            "hash_ids": [[1, 2], []],
        },
        block_size_tokens="16",
    )
    first, second = rows_of(path)
    assert first.program == "s"
    assert (first.turn, first.tenant, first.priority) == (0, "12", 1)
    assert (first.hash_ids, first.hash_block_tokens) == ((1, 2), 16)
    assert (second.tenant, second.priority, second.hash_ids) == ("", None, ())


def test_runs_of_hashes_are_spelt_out_and_preferred_as_the_finer_ones(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "t.parquet",
        {
            "arrival_s": [0.0],
            "prompt_tokens": [400],
            "output_tokens": [3],
            "hash_ids": [[3]],
            "hash_runs": [[1, 3, 9, 2]],
        },
        hash_ids_block_size_tokens="512",
        hash_runs_block_size_tokens="64",
    )
    (row,) = rows_of(path)
    assert (list(row.hash_ids), row.hash_block_tokens) == ([1, 2, 3, 9, 10], 64)


def test_rows_without_work_are_counted_by_reason(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.csv",
        "arrival_s,prompt_tokens,output_tokens\n0,0,1\n1,-5,1\n2,1,\n3,,1\n,1,1\n4,1,1\n",
    )
    trace = open_trace(path)
    for _ in range(2):  # counted anew by every reading
        assert [row.arrival_s for row in trace.rows()] == [4]
        assert trace.skipped == {
            "prompt_tokens is 0": 1,
            "prompt_tokens is negative": 1,
            "output_tokens is missing": 1,
            "prompt_tokens is missing": 1,
            "arrival_s is missing": 1,
        }


def test_times_that_run_back_are_an_error_that_says_how_to_sort(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.csv", "arrival_s,prompt_tokens,output_tokens\n2,1,1\n1,2,2\n1,3,3\n"
    )
    with pytest.raises(ConfigError, match=r"row 2 arrives at 1 s.*--sort"):
        rows_of(path)
    assert [row.prompt_tokens for row in rows_of(path, sort=True)] == [2, 3, 1]


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    written(tmp_path / "trace.csv", "")
    with pytest.raises(ConfigError, match=r"Did you mean trace\.csv"):
        open_trace(tmp_path / "trase.csv")
    with pytest.raises(ConfigError, match="azure-conv-slice"):
        open_trace("azure-conv-slyce")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.parquet", b"PAR1 and then nothing of the kind", "not a readable Parquet file"),
        ("t.parquet", b"", "not a readable Parquet file"),
        ("t.csv", b"", "is empty"),
        ("t.jsonl", b"\n", "is empty"),
        ("t.jsonl", b"[1, 2]\n", "line 1: not a JSON object"),
        ("t.jsonl", b'{"prompt_tokens": 1, "output_tokens": 1}\n{', "line 2: not a JSON object"),
        ("t.csv", b"\xff\xfe\x00\x01\x80", "is not text"),
        ("t.csv", b"arrival,prompt_token,output_tokens\n", "Did you mean prompt_token "),
        ("t.csv", b"a,b\n", "has no column prompt_tokens and no column output_tokens"),
        ("t.csv", b"prompt_tokens,output_tokens\nmany,1\n", "line 2: prompt_tokens is 'many'"),
        ("t.csv", b"prompt_tokens,output_tokens\n1.5,1\n", "expected a whole number"),
        ("t.csv", b"arrival_s,prompt_tokens,output_tokens\ninf,1,1\n", "expected a finite"),
        ("t.csv", b"arrival_s,prompt_tokens,output_tokens\n1-2-x,1,1\n", "is no time such as"),
        ("t.csv", b"prompt_tokens,output_tokens\n1\n", "cut short"),
        ("t.csv", b"prompt_tokens,output_tokens,hash_ids\n1,1,a b\n", "list of whole numbers"),
        ("t.csv", b"prompt_tokens,output_tokens,hash_runs\n1,1,1 2 3\n", "odd length"),
    ],
)
def test_a_bad_file_gets_a_clear_message(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        rows_of(path)


def test_a_parquet_file_cut_in_its_data_is_found_out(tmp_path: Path) -> None:
    columns = {"prompt_tokens": list(range(1, 5000)), "output_tokens": [1] * 4999}
    path = parquet(tmp_path / "t.parquet", columns)  # type: ignore[arg-type]
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="not a readable Parquet file"):
        rows_of(path)


def test_a_folder_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        open_trace(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("arrival", "NAME=COLUMN"), ("promt=x", "Did you mean prompt"), ("prompt=", "NAME=COLUMN")],
)
def test_a_bad_column_list_gets_a_clear_message(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_columns(text)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared traces are not on this machine")
@pytest.mark.parametrize(
    ("name", "n_rows", "block_tokens", "skipped"),
    [
        ("azure2023_conv", 13826, 0, 0),
        ("rtp_online", 3115, 1024, 1960),
        ("mooncake_arxiv_head", 630, 512, 0),
        ("taubench_airline", 1321, 16, 0),
    ],
)
def test_shared_traces_are_read_whole(
    name: str, n_rows: int, block_tokens: int, skipped: int
) -> None:
    trace = open_trace(SHARED / f"{name}.parquet")
    assert sum(1 for _ in trace.rows()) == n_rows
    assert trace.hash_block_tokens == block_tokens
    assert trace.skipped.total() == skipped
