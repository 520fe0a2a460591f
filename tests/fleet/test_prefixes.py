"""What is cached where, as the fleet and its instances tell each other."""

from __future__ import annotations

from fairlead.model import InstanceId, Reported, TellCache
from tests.strategies import request, spec
from tests.world import World, fleet

A, B = InstanceId("a"), InstanceId("b")


def world(*names: str) -> World:
    the_world = World(fleet())
    for name in names:
        the_world.up(spec(name))
    return the_world


def test_the_fleet_knows_what_each_of_its_instances_holds() -> None:
    w = world("a", "b")
    one = request("r1", prompt=10)
    w.arrive(one)
    assert w.fleet.instances[A].cached_tokens(one) == 8, "expected at once"
    w.settle()
    for name in ("a", "b"):
        w.report(name)
    w.settle()
    assert w.fleet.instances[A].cached_tokens(one) == 8
    assert w.fleet.instances[B].cached_tokens(one) == 0
    for name, instance in w.instances.items():
        believed = w.fleet.instances[InstanceId(name)].prefixes.names
        assert set(believed) == set(instance.planner.pool.names())


def test_when_a_report_is_lost_the_fleet_asks_for_the_whole_cache() -> None:
    w = world("a")
    one = request("r1", prompt=10)
    w.arrive(one)
    w.settle()
    w.instances["a"].report(w.now)  # Nobody hears it.
    report = w.instances["a"].report(w.now)
    assert w.tell(Reported(report)) == [TellCache(A)]
    assert w.tell(Reported(w.instances["a"].report(w.now, whole_cache=True))) == []
    assert w.fleet.instances[A].cached_tokens(one) == 8
    w.now += 10.0
    assert w.tell(Reported(w.instances["a"].report(w.now))) == []


def test_what_an_instance_held_is_forgotten_with_it() -> None:
    w = world("a", "b")
    w.arrive(request("r1"))
    w.settle()
    w.report("a")
    w.settle()
    assert len(w.fleet.prefix_index) > 0
    w.kill("a")
    assert len(w.fleet.prefix_index) == 0
    w.up(spec("a", incarnation="a-2"))
    assert w.tell(Reported(w.instances["a"].report(w.now))) == []
