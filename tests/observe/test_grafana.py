"""The Grafana dashboard asks only for what the gateway exports."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from fairlead.observe.metrics import Metrics
from tests.strategies import request, spec
from tests.world import World, fleet

FILE = Path(__file__).parents[2] / "docs" / "grafana" / "fairlead.json"
GRAFANA_S = "30s"


def exported() -> dict[str, set[str]]:
    """Labels by sample, of a gateway to which everything has happened that brings a label."""
    world = World(fleet(max_queued=0))
    world.up(spec("a"))
    world.arrive(request("r1", out=4))
    world.arrive(request("unknown", model="unknown"))
    world.settle()
    world.report("a")
    world.settle()
    metrics = Metrics(world.fleet.requests)
    for now, event, actions in world.log:
        metrics.observe(event, actions, now)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> list[tuple[str, str, str]]:
    panels = json.loads(FILE.read_text())["panels"]
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in panels
        for target in panel.get("targets", [])
    ]


def test_every_metric_and_label_that_it_names_is_exported() -> None:
    known = exported()
    assert len(expressions()) > 20
    for title, expression, legend in expressions():
        names = re.findall(r"fairlead_\w+", expression)
        assert names, title
        for name in names:
            assert name in known, f"{title}: nothing exports {name}"
        labels = {
            label.strip()
            for by in re.findall(r"by \(([^)]*)\)", expression)
            for label in by.split(",")
        } | set(re.findall(r"\{\{(\w+)\}\}", legend))
        for label in labels:
            assert any(label in known[name] for name in names), f"{title}: no label {label}"


def test_every_metric_that_is_exported_is_shown_or_left_out_on_purpose() -> None:
    shown = {
        name
        for _, expression, _ in expressions()
        for name in re.findall(r"fairlead_\w+", expression)
    }
    left_out = {
        "fairlead_instance_kv_tokens",  # what an instance is, and not how it fares
        "fairlead_instance_kv_bytes_per_token",
    }
    base = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()}
    base = {name for name in base if not name.endswith("_created")}
    assert base - {re.sub(r"_bucket$", "", name) for name in shown} == left_out
