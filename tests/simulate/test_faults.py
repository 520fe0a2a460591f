"""What goes wrong, one fault at a time: what it does, and what it does not do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.model import Action, ConfigError, Event, InstanceDown, InstanceUp, Reported, Tokens
from fairlead.simulate import simulate
from fairlead.simulate.faults import Burst, Death, Faults
from fairlead.simulate.faulty import FaultySimulator
from fairlead.simulate.read_faults import make_faults, read_faults
from fairlead.simulate.schedule import Bursts, moments, victims
from fairlead.simulate.simulator import Simulator
from fairlead.workload.records import ENDINGS, Columns, Ending
from tests.simulate.worlds import config, crowd, row, watched

EXAMPLE = Path(__file__).parents[2] / "examples" / "faults.toml"


class Seen:
    """What reached the fleet, with its time."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        self.events.append((now, event))

    def times(self, kind: type[Any], instance: str | None = None) -> list[float]:
        return [
            now
            for now, event in self.events
            if isinstance(event, kind) and (instance is None or self._of(event) == instance)
        ]

    def _of(self, event: Any) -> str:
        if isinstance(event, InstanceUp):
            return event.spec.id
        return str(event.report.instance if isinstance(event, Reported) else event.instance)


def endings(columns: Columns) -> list[Ending]:
    return [ENDINGS[i] for i in columns.ending]


def six(output: int = 200) -> list[Any]:
    """Six requests at once, two on each instance, that take about 1.5 s."""
    return [row(i, output=output) for i in range(6)]


# ---------------------------------------------------------------- nothing


def test_a_world_where_nothing_goes_wrong_is_the_world_without_faults() -> None:
    rows, fleet = crowd(1, 60, 60), config({"routing": "prefix-load", "batching": "slack"})
    plain = Simulator(fleet, 1)
    plain.run(rows)
    _, columns = watched(fleet, rows, seed=1)
    np.testing.assert_array_equal(plain.records.columns().last_s, columns.last_s)


# ---------------------------------------------------------------- instances


def test_streams_of_an_instance_that_dies_go_on_elsewhere() -> None:
    seen = Seen()
    fault = {"at_s": 0.5, "instance": "p-1"}
    simulator, columns = watched(config(), six(), {"death": [fault]}, observers=[seen.observe])
    assert endings(columns) == [Ending.FINISHED] * 6
    assert columns.output_tokens.tolist() == [200.0] * 6
    assert columns.resumed.sum() == 2
    assert seen.times(InstanceDown) == [pytest.approx(0.5005)]
    assert simulator.facts()["instances"].hours < 3 * simulator.heap.now / 3600


def test_an_instance_that_dies_silently_is_missed_after_ten_reports() -> None:
    seen = Seen()
    fault = {"at_s": 0.5, "instance": "p-1", "silent": True}
    watched(config(), six(1200), {"death": [fault]}, observers=[seen.observe])
    (down_s,) = seen.times(InstanceDown)
    assert 5.5 < down_s <= 6.0


def test_frames_on_their_way_are_lost_with_the_connection_or_arrive() -> None:
    def seen_tokens(frames: str) -> int:
        seen = Seen()
        fault = {"at_s": 0.5, "instance": "p-1", "frames": frames}
        watched(
            config(simulation={"delay_s": 0.05}),
            six(),
            {"death": [fault]},
            observers=[seen.observe],
        )
        return sum(
            len(r.token_ids)
            for _, event in seen.events
            if isinstance(event, Tokens) and event.instance == "p-1"
            for r in event.rows
        )

    assert seen_tokens("lost") < seen_tokens("arrive")


def test_an_instance_comes_back_empty_after_its_start_up_time_or_never() -> None:
    for restart, ups in ((True, [0.0, pytest.approx(1.5)]), (False, [0.0])):
        seen = Seen()
        fault = {"at_s": 0.5, "instance": "p-1", "restart": restart}
        fleet = config(simulation={"start_up_s": 1.0})
        watched(fleet, six(400), {"death": [fault]}, observers=[seen.observe])
        assert seen.times(InstanceUp, "p-1") == ups


@pytest.mark.parametrize("process", [False, True])
def test_a_stall_holds_tokens_up_and_loses_none(process: bool) -> None:
    seen = Seen()
    fault = {"at_s": 0.5, "for_s": 2.0, "instance": "p-1", "process": process}
    _, columns = watched(config(), six(), {"stall": [fault]}, observers=[seen.observe])
    assert not [t for t in seen.times(Tokens, "p-1") if 0.52 < t < 2.5]
    assert columns.output_tokens.tolist() == [200.0] * 6
    assert not columns.resumed.any()
    during = [t for t in seen.times(Reported, "p-1") if 0.51 < t < 2.5]
    assert bool(during) != process  # A process that stands still does not report either.


def test_a_slow_instance_shows_in_its_reports_and_recovers() -> None:
    seen = Seen()
    fault = {"at_s": 0.5, "for_s": 2.0, "instance": "p-1", "factor": 3.0}
    watched(config(), six(1200), {"slow": [fault]}, observers=[seen.observe])
    slowdowns = {
        now: event.report.slowdown
        for now, event in seen.events
        if isinstance(event, Reported) and event.report.instance == "p-1"
    }
    assert max(slowdowns.values()) > 2.5
    assert slowdowns[max(slowdowns)] < 1.1


# ---------------------------------------------------------------- the network


def test_a_short_partition_is_bridged_and_a_long_one_makes_the_instance_join_again() -> None:
    for for_s, gone in ((2.0, []), (7.0, [pytest.approx(5.75, abs=0.6)])):
        seen = Seen()
        fault = {"at_s": 0.5, "for_s": for_s, "instance": "p-1"}
        simulator, columns = watched(
            config(), six(2000), {"partition": [fault]}, observers=[seen.observe]
        )
        assert endings(columns) == [Ending.FINISHED] * 6
        assert seen.times(InstanceDown) == gone
        assert len(seen.times(InstanceUp, "p-1")) == 1 + len(gone)
        assert not simulator.machines[next(iter(simulator.machines))].node.idles


def test_an_instance_that_is_told_to_stop_hands_on_what_it_holds_and_ends() -> None:
    seen = Seen()
    fault = {"at_s": 0.5, "instance": "p-1", "restart": False}
    _, columns = watched(config(), six(2000), {"leave": [fault]}, observers=[seen.observe])
    assert endings(columns) == [Ending.FINISHED] * 6
    assert not columns.resumed.any()
    (down_s,) = seen.times(InstanceDown, "p-1")
    assert 0.5 < down_s < columns.ended_s.min()
    assert seen.times(InstanceUp) == [0.0] * 3


def test_one_whose_time_is_up_before_it_is_empty_dies_with_what_it_holds() -> None:
    fault = {"at_s": 0.5, "instance": "p-1", "grace_s": 0.001}
    seen, soon = Seen(), config(simulation={"start_up_s": 1.0})
    _, columns = watched(soon, six(2000), {"leave": [fault]}, observers=[seen.observe])
    assert endings(columns) == [Ending.FINISHED] * 6
    assert columns.resumed.sum() == 2
    assert len(seen.times(InstanceUp, "p-1")) == 2


@pytest.mark.parametrize("kind", ["lost", "doubled", "late", "reordered"])
def test_streams_stay_whole_whatever_a_link_does(kind: str) -> None:
    fault = {kind: 0.3, "late_s": 0.05}
    _, columns = watched(config(), crowd(3, 40, 60), {"messages": [fault]}, seed=3)
    assert endings(columns) == [Ending.FINISHED] * 40
    assert bool(columns.resumed.any()) == (kind in ("lost", "reordered"))


# ---------------------------------------------------------------- gateway and clients


def test_a_gateway_that_restarts_fails_its_streams_and_serves_those_that_come_later() -> None:
    rows = [*six(), row(6, 1.0), row(7, 4.0)]
    _, columns = watched(config(), rows, {"gateway_restart": [{"at_s": 0.5, "for_s": 2.0}]})
    assert endings(columns) == [*[Ending.FAILED] * 7, Ending.FINISHED]
    assert columns.ended_s[:7].tolist() == [*[0.5] * 6, 1.0]


def test_clients_hang_up_and_what_they_had_asked_for_is_given_up() -> None:
    simulator, columns = watched(config(), six(2000), {"hang_up": [{"share": 1.0, "after_s": 0.5}]})
    assert endings(columns) == [Ending.CANCELLED] * 6
    assert (columns.output_tokens < 2000).all()
    simulator.heap.run_until(simulator.heap.now + 1.0)
    assert all(not machine.node.instance.sequences for machine in simulator.machines.values())


def test_in_a_burst_a_trace_runs_ten_times_as_fast_and_goes_on_where_it_is() -> None:
    bursts = Bursts([Burst(at_s=10.0, for_s=2.0)], 0)
    assert [bursts.when(t) for t in (0.0, 10.0, 15.0, 30.0, 31.0)] == [0.0, 10.0, 10.5, 12.0, 13.0]
    _, columns = watched(
        config(), [row(i, i / 10) for i in range(40)], {"burst": [{"at_s": 1.0, "for_s": 0.2}]}
    )
    assert ((columns.arrival_s >= 1.0) & (columns.arrival_s < 1.2)).sum() == 20


def test_bursts_do_not_overlap() -> None:
    bursts = Bursts([Burst(at_s=1.0, for_s=1.0), Burst(at_s=1.5, for_s=1.0)], 0)
    assert [bursts.when(t) for t in (1.0, 11.0, 21.0, 22.0)] == [1.0, 2.0, 3.0, 4.0]


# ---------------------------------------------------------------- draws


def test_one_fault_more_leaves_the_others_where_they_were() -> None:
    drawn = Death(every_s=10.0, until_s=100.0)
    assert list(moments(drawn, "0 death 0 p-1")) == list(moments(drawn, "0 death 0 p-1"))
    assert list(moments(drawn, "0 death 0 p-1")) != list(moments(drawn, "0 death 0 p-2"))
    assert all(0 < time_s < 100 for time_s in moments(drawn, "x"))

    def deaths(**more: Any) -> list[float]:
        seen = Seen()
        faults = {"death": [{"every_s": 0.7, "until_s": 2.0}], **more}
        watched(config(), crowd(1, 60, 30), faults, observers=[seen.observe])
        return [t for t in seen.times(InstanceDown) if t < 2.0]

    late = {"messages": [{"late": 0.5, "late_s": 1e-6}]}
    assert deaths() == pytest.approx(deaths(**late), abs=1e-4)


def test_a_fault_befalls_whom_it_names_or_each_or_one_that_the_seed_draws() -> None:
    names = ["a", "b", "c"]
    assert victims(Death(at_s=1.0, instance="b"), "s", names) == ["b"]
    assert victims(Death(every_s=1.0), "s", names) == names
    drawn = {tuple(victims(Death(at_s=1.0), f"{seed} death 0", names)) for seed in range(20)}
    assert drawn == {("a",), ("b",), ("c",)}


def test_faults_that_come_again_and_again_come_at_their_mean_rate() -> None:
    times = list(islice(moments(Death(every_s=2.0), "rate"), 4000))
    assert times[-1] / 4000 == pytest.approx(2.0, rel=0.05)


# ---------------------------------------------------------------- files


def test_the_example_is_a_faults_file() -> None:
    faults = read_faults(EXAMPLE)
    assert faults.death[0].instance == "h100-3"
    assert faults.burst[0].factor == 10.0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[deth]]\nat_s = 1", "did you mean 'death'"),
        ("[death]\nat_s = 1", r"\[\[death\]\], once for each"),
        ("[[death]]\nat = 1", "no key 'at'; did you mean 'at_s'"),
        ("[[death]]", "set either at_s .* or every_s"),
        ("[[death]]\nat_s = 1\nevery_s = 1", "set either at_s .* or every_s"),
        ("[[death]]\nat_s = -1", "at_s must be at least 0, got -1"),
        ("[[death]]\nat_s = nan", "at_s must be at least 0"),
        ("[[death]]\nevery_s = 0", "every_s must be positive"),
        ("[[death]]\nevery_s = 1\nfrom_s = 5\nuntil_s = 2", "must lie before"),
        ("[[death]]\nat_s = 1\nframes = 'x'", "frames must be arrive or lost, got 'x'"),
        ("[[stall]]\nat_s = 1", "stall 1 must say for_s"),
        ("[[stall]]\nat_s = 1\nfor = 2", "must say for_s; it has no key 'for'"),
        ("[[slow]]\nat_s = 1\nfor_s = 1\nfactor = 0", "factor must be positive"),
        ("[[messages]]\nlost = 2", "lost must be between 0 and 1, got 2"),
        ("[[messages]]\ndirection = 'up'", "direction must be both or to-fleet or to-instance"),
        ("[[hang_up]]\nshare = 0.1\nafter_s = 'soon'", "after_s must be a number, got 'soon'"),
        ("at_s =", "is not a TOML file"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "faults.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as raised:
        read_faults(file)
    assert str(file) in str(raised.value)


def test_all_mistakes_are_named_together_and_a_missing_file_and_instance_too(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_faults(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError) as raised:
        make_faults({"deth": [{}], "stall": [{"at_s": 1.0}]})
    assert len(str(raised.value).splitlines()) == 2
    faults = Faults(death=(Death(at_s=1.0, instance="p-9"),))
    with pytest.raises(ConfigError, match="no instance 'p-9'; did you mean 'p-"):
        FaultySimulator(config(), 0, faults)


def test_a_simulation_with_faults_is_summed_up_like_any_other() -> None:
    faults = make_faults({"death": [{"at_s": 0.3}], "hang_up": [{"share": 0.3, "after_s": 0.2}]})
    found = simulate(config(), crowd(2, 60, 60), faults=faults, timeline_s=0.1)
    again = simulate(config(), crowd(2, 60, 60), faults=faults)
    summary = found.summary.to_json()
    assert sum(summary["requests"][key] for key in ("finished", "cancelled")) == 60
    assert summary["requests"]["resumed"] > 0
    assert summary["digest"] == again.summary.to_json()["digest"]
    assert 0 < summary["instances"]["busy_fraction"] <= 1
