"""Fleet files: what they come to, and what is said about the wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.cli.fleet_file import read_fleet_file
from fairlead.cli.main import main
from fairlead.model import ConfigError, Objective

EXAMPLES = sorted(
    path
    for path in (Path(__file__).parents[2] / "examples").glob("*.toml")
    if path.stem != "faults"  # What goes wrong in a simulation, and no fleet.
)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_sound(path: Path) -> None:
    assert main(["check", str(path)]) == 0


def test_an_empty_file_is_a_fleet_of_one_with_our_own_policies(tmp_path: Path) -> None:
    config, _ = read_fleet_file(write(tmp_path, ""))
    assert [(pool.model, pool.instances) for pool in config.pools] == [("fairlead-nano", 1)]
    policy = config.policy
    assert (policy.admission, policy.routing, policy.batching) == (
        "predicted",
        "prefix-load",
        "slack",
    )


def test_objectives_and_their_mix_are_read(tmp_path: Path) -> None:
    text = "[objectives.a]\nttft_s = 1\n[objectives.b]\n[workload]\ndefault='b'\nmix={a=0.5}\n"
    mix = read_fleet_file(write(tmp_path, text))[0].workload
    assert mix.classes["a"] == Objective("a", ttft_s=1.0)
    assert (mix.default, mix.mix) == ("b", {"a": 0.5})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[objectives", "is not valid TOML"),
        ("objectives = 3", "must hold a table for each class"),
        ("[objectives]\na = 1", "objectives.a must be a table"),
        ("[objectives.a]\nttft = 1", "Did you mean ttft_s"),
        ("[objectives.a]\nttft_s = -1", "must be a number above 0"),
        ("[workload]\nmx = {}", "workload has no key 'mx'; did you mean 'mix'"),
        ("[workload]\nmix = 1", "workload.mix must be a table"),
        ("[workload]\nmix = {a = 1.0}", "no objective class is named 'a'"),
        ("[gatway]", r"no table is called \[gatway\]; did you mean 'gateway'"),
        ("[pool]\nname = 'x'", r"written as \[\[pool\]\]"),
        ("[[pool]]\nmodle = 'x'", "pool 1 has no key 'modle'; did you mean 'model'"),
        ("[[pool]]\ninstances = 'x'", "pool 1.instances must be a whole number, got 'x'"),
        ("[[pool]]\ninstances = -1", "instances must be at least 0"),
        ("[[pool]]\nname='a'\n[[pool]]\nname='a'", "needs a name of its own"),
        ("[policy]\nrouting = 'round-robbin'", "did you mean 'round-robin'"),
        ("[policy]\nscaling = 'kpas'", "did you mean 'kpa'"),
        ("[policy.params.routing]\nspar = 1.0", "has no parameter 'spar'; did you mean 'spare'"),
        ("[policy.params.batching]\nspare = 2.0", "spare must be above 0 and at most 1"),
        ("[limits]\nmax_queued = 1.5", "limits.max_queued must be a whole number"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest_right_word(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_fleet_file(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gateway]\nlisten = 'nowhere'", "is not an address"),
        ("[gateway]\nlissen = 'x'", "gateway has no key 'lissen'; did you mean 'listen'"),
        ("[gateway]\ntoken = 'x'", "a secret does not belong here"),
    ],
)
def test_check_looks_at_the_gateway_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    assert main(["check", str(write(tmp_path, text))]) == 2
    assert message in capsys.readouterr().err


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = "[[pool]]\nmodle = 'x'\n[policy]\nrouting = 'zzz'\n[limits]\nq = 1\n"
    with pytest.raises(ConfigError) as caught:
        read_fleet_file(write(tmp_path, text))
    assert all(word in str(caught.value) for word in ("modle", "zzz", "'q'"))


def test_set_changes_one_value_and_check_tells_where_each_came_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "[[pool]]\nname = 'chat'\ninstances = 2\n")
    changes = ["--set", "policy.routing=round-robin", "--set", "pool.chat.instances=5"]
    assert main(["check", str(path), *changes, "--json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["policy.routing"]["value"] == "round-robin"
    assert rows["policy.routing"]["origin"] == "flag"
    assert rows["pool.0.instances"]["value"] == 5
    assert rows["pool.0.instances"]["origin"] == "flag"
    assert rows["pool.0.name"]["origin"] == "file"
    assert rows["policy.batching"]["origin"] == "default"


@pytest.mark.parametrize("change", ["policy", "=x", "pool.9.instances=1", "pool.name=x"])
def test_a_bad_set_is_a_clear_mistake(tmp_path: Path, change: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        read_fleet_file(write(tmp_path, "[[pool]]\nname='a'"), [change])


def test_a_missing_file_says_where_to_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist; examples/laptop.toml"):
        read_fleet_file(tmp_path / "none.toml")


def test_an_openai_pool_has_an_instance_for_each_server(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text('[[pool]]\nengine = "openai"\nurls = ["http://a", "http://b"]\n')
    config, _ = read_fleet_file(path, [])
    assert (config.pools[0].instances, config.pools[0].bounds.max_instances) == (2, 2)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('engine = "openai"', "needs urls"),
        ('urls = ["http://a"]', "no other has any"),
        ('engine = "openai"\nurls = ["http://a", "http://b"]\ninstances = 3', "each of 2 urls"),
        ('engine = "openai"\nurls = ["http://a"]\nkv_events = ["x", "y"]', "kv_events must name"),
        ('engine = "openai"\nurl = "http://a"', "did you mean 'urls'"),
    ],
)
def test_what_is_wrong_with_an_openai_pool_is_told(tmp_path, lines, message):
    path = tmp_path / "fleet.toml"
    path.write_text(f"[[pool]]\n{lines}\n")
    with pytest.raises(ConfigError, match=message):
        read_fleet_file(path, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[batches]\n", None),
        ('[batches]\nfolder = "f"\nfoldr = "g"\n', "folder"),
        (
            '[batches]\nfolder = "f"\n[objectives.chat]\nttft_s = 1\n[workload]\ndefault = "chat"',
            "batch",
        ),
        ('[batches]\nfolder = ""\nmax_lines = 5\n', "folder must be set"),
        ('[batches]\nfolder = "f"\nmax_lines = 0\n', "max_lines must be positive"),
    ],
)
def test_a_batches_table_is_checked(
    text: str, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    assert main(["check", str(path)]) == (2 if said else 0)
    if said:
        assert said in capsys.readouterr().err
