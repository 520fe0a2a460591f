"""`fairlead compare` and `fairlead capacity`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.cli.main import main
from tests.cli.conftest import TRACE

VARY = "policy.routing=round-robin,least-load"


def test_a_comparison_is_printed_written_and_drawn(
    fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["compare", TRACE, "--fleet", fleet, "--limit", "20", "--out", str(out)]
    assert main([*command, "--rate", "20,60", "--vary", VARY, "--seeds", "2", "--jobs", "2"]) == 0
    text = capsys.readouterr().out
    assert "azure-conv-slice at 20 requests/s" in text
    assert "azure-conv-slice at 60 requests/s" in text
    assert text.count("★") == 3  # one a rate, and the one that is explained
    comparison = json.loads((out / "summary.json").read_text())
    assert [cell["label"] for cell in comparison["cells"]] == ["round-robin", "least-load"] * 2
    assert comparison["seeds"] == [0, 1]
    assert {"classes", "ttft_s", "digest"} <= comparison["cells"][0]["summary"].keys()
    assert "Goodput against rate" in (out / "index.html").read_text()


def test_any_key_can_be_varied_and_nothing_need_be_written(
    fleet: str, capsys: pytest.CaptureFixture[str]
) -> None:
    vary = ("--vary", "pool.h100.instances=1,2", "--rate", "20")
    assert main(["compare", TRACE, "--fleet", fleet, "--limit", "20", "--jobs", "1", *vary]) == 0
    assert "instances=1" in capsys.readouterr().out


def test_arrivals_are_drawn_at_each_of_the_rates(
    fleet: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", TRACE, "--fleet", fleet, "--limit", "20", "--jobs", "1", "--vary", VARY]
    assert main([*command, "--rate", "20,60", "--arrivals", "gamma:cv=3"]) == 0
    text = capsys.readouterr().out
    assert "azure-conv-slice at 20 requests/s" in text
    assert "azure-conv-slice at 60 requests/s" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--vary", "policy.routing=round-robin,least-loud"), "did you mean 'least-load'"),
        (("--vary", "policy.rooting=a"), "did you mean 'routing'"),
        (("--vary", "polcy.routing=round-robin"), "did you mean 'policy'"),
        (("--vary", "policy.routing"), "is not KEY=VALUE,VALUE"),
        (("--vary", VARY, "--vary", VARY), "given twice"),
        (("--rate", "azure-conv=3"), "did you mean 'azure-conv-slice'"),
        (("--jobs", "0"), "--jobs must be at least 1"),
        (("--window", "1e6:2e6"), "no row to play"),
        (("--arrivals", "poisson"), "rate is missing"),
        (("--arrivals", "poisson:rate=9", "--rate", "7"), "leave one of them out"),
    ],
)
def test_mistakes_show_before_anything_runs_and_leave_nothing(
    fleet: str,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main(["compare", TRACE, "--fleet", fleet, "--out", str(out), *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert not printed.out
    assert not out.exists()


def test_a_folder_that_cannot_be_is_told(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", TRACE, "--fleet", fleet, "--out", f"{fleet}/out"]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_capacity_names_policies_alone_and_together(
    fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.json"
    policies = ("--policies", "round-robin,sarathi+least-load", "--tolerance", "0.4")
    command = ["capacity", TRACE, "--fleet", fleet, "--limit", "40", "--jobs", "1"]
    assert main([*command, *policies, "--set", "pool.0.n_blocks=400", "--out", str(out)]) == 0
    assert "90.0% of objectives met" in capsys.readouterr().out
    found = json.loads(out.read_text())["policies"]
    assert [policy["policy"]["batching"] for policy in found] == ["fcfs", "sarathi"]
    assert [policy["policy"]["routing"] for policy in found] == ["round-robin", "least-load"]
    for policy in found:
        held = [probe for probe in policy["probes"] if probe["attainment"] >= 0.9]
        assert policy["rate_rps"] == max(probe["rate_rps"] for probe in held)


def test_an_objective_that_nobody_keeps_does_not_hold(
    fleet: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A first token in a microsecond."""
    impossible = ("--set", "objectives.interactive.ttft_s=1e-6", "--limit", "3", "--jobs", "1")
    assert main(["capacity", TRACE, "--fleet", fleet, *impossible]) == 1
    assert "the objectives that no rate can keep" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policies", "least-loud"), "did you mean 'least-load'"),
        (("--policies", "fcfs+sarathi"), "both batching policies"),
        (("--attain", "90"), "--attain must be above 0 and at most 1"),
        (("--tolerance", "0"), "--tolerance"),
        (("--rate", "-3"), "--rate must be above 0"),
        (("--out", "/nowhere/c.json"), "there is no folder /nowhere"),
    ],
)
def test_mistakes_about_capacity_are_told(
    fleet: str, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["capacity", TRACE, "--fleet", fleet, *arguments]) == 2
    assert message in capsys.readouterr().err
