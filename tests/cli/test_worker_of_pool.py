"""`fairlead worker --fleet`: a worker started by hand is what the fleet file says of its pool."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from fairlead.cli import worker
from fairlead.cli.fleet_file import read_fleet_file
from fairlead.cli.pool_worker import worker_setting
from fairlead.model import ConfigError
from fairlead.worker.settings import WorkerSettings

CHAT = """
[[pool]]
name = "chat"
model = "fairlead-nano"
engine = "embedded"
instances = 0
max_sequences = 7
kv_gib = 0.25
step_log = "steps-{name}.csv"

[policy]
batching = "sarathi"
[policy.params.batching]
chunk_tokens = 300
"""
SERVERS = """
[[pool]]
name = "vllm"
model = "tiny"
engine = "openai"
instances = 0
tokenizer = "fairlead-nano"
served_as = "t"
max_context = 512
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.toml"


def settings(*arguments: str) -> WorkerSettings:
    parser = argparse.ArgumentParser()
    worker.add_parser(parser.add_subparsers())
    return worker._settings(parser.parse_args(["worker", "--join=h:1", *arguments]))


def test_it_is_what_serve_would_start(path: Path) -> None:
    path.write_text(CHAT)
    mine = settings(f"--fleet={path}", "--name=i0", "--threads=1", "--pool=chat")
    config, _ = read_fleet_file(path, ["pool.0.threads=1"])
    assert mine == worker_setting(config, "chat", 0, "h:1", 0)
    assert mine.batching_params == {"chunk_tokens": 300}
    assert mine.step_log == "steps-i0.csv"


def test_what_is_given_goes_first_and_the_only_pool_needs_no_name(path: Path) -> None:
    path.write_text(CHAT)
    mine = settings(f"--fleet={path}", "--max-sequences=9", "--batching=fcfs")
    assert (mine.pool, mine.max_sequences, mine.batching) == ("chat", 9, "fcfs")
    assert not mine.batching_params
    assert (mine.name, mine.threads, mine.kv_bytes) == ("", None, 2**28)


def test_mistakes_say_what_to_do(path: Path) -> None:
    path.write_text(CHAT + SERVERS)
    with pytest.raises(ConfigError, match=r"name one with --pool; the fleet file has chat, vllm"):
        settings(f"--fleet={path}")
    with pytest.raises(ConfigError, match=r"no pool 'chats'; the fleet file has chat, vllm"):
        settings(f"--fleet={path}", "--pool=chats")
    with pytest.raises(ConfigError, match="does not exist"):
        settings("--fleet=/nowhere.toml")
    with pytest.raises(ConfigError, match="--model, or a --fleet"):
        settings()


def test_its_server_is_told_by_who_starts_it(path: Path) -> None:
    path.write_text(SERVERS)
    with pytest.raises(ConfigError, match="needs the url of its server"):
        settings(f"--fleet={path}")
    mine = settings(f"--fleet={path}", "--url=http://b:1")
    assert (mine.url, mine.served_as, mine.max_context) == ("http://b:1", "t", 512)
