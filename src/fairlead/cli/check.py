"""`fairlead check`: validates a fleet file and prints what it comes to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from fairlead.cli import fleet_file
from fairlead.cli.batch_service import read_batches
from fairlead.cli.provisioners import check_provisioners, read_kubernetes, read_ray
from fairlead.cli.serve import gateway_settings
from fairlead.cli.tenant_database import read_tenants
from fairlead.fleet.config import FleetConfig

EXAMPLE = """\
examples:
  fairlead check examples/laptop.toml
  fairlead check examples/laptop.toml --set policy.routing=least-load --json
"""

Line = tuple[str, Any, str]
"""Key, value, and where the value comes from: file, flag or default."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "check",
        help="validate a fleet file",
        description="Validates a fleet file; prints every value with its origin.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fleet_file.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    config, tables = fleet_file.read_fleet_file(args.fleet, args.set)
    _, settings = gateway_settings(config, token="checked elsewhere")
    check_provisioners(config, settings.max_workers)
    if config.tenants:
        read_tenants(config.tenants)
    if config.batches:
        read_batches(config)
    flags = {change.partition("=")[0] for change in args.set}
    lines = list(effective(config, tables, flags))
    if args.json:
        rows = [{"key": key, "value": value, "origin": origin} for key, value, origin in lines]
        print(json.dumps(rows, indent=2, default=str))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "value", "origin"):
        table.add_column(column, overflow="fold")
    for key, value, origin in lines:
        table.add_row(key, json.dumps(value, default=str), origin)
    Console(highlight=False).print(table)
    return 0


def effective(config: FleetConfig, tables: dict[str, Any], flags: set[str]) -> Iterator[Line]:
    """Every value in force."""

    def lines(prefix: str, value: Any, given: dict[str, Any]) -> Iterator[Line]:
        for field in fields(value):
            key = f"{prefix}.{field.name}"
            origin = "flag" if key in flags else "file" if field.name in given else "default"
            shown = getattr(value, field.name)
            yield key, dict(shown) if hasattr(shown, "keys") else shown, origin

    for i, pool in enumerate(config.pools):
        given = tables.get("pool", [{}])
        # A flag may name a pool instead of counting.
        flags = {flag.replace(f"pool.{pool.name}.", f"pool.{i}.") for flag in flags}
        yield from lines(f"pool.{i}", pool, given[i])
    yield from lines("policy", config.policy, tables.get("policy", {}))
    yield from lines("limits", config.limits, tables.get("limits", {}))
    for name, objective in config.objectives.items():
        for field in ("ttft_s", "tpot_s", "deadline_s"):
            if (value := getattr(objective, field)) is not None:
                yield f"objectives.{name}.{field}", value, "file"
    for key, value in config.gateway.items():
        if key != "api_keys":
            full = f"gateway.{key}"
            yield full, value, "flag" if full in flags else "file"
    if config.tenants:
        settings = replace(read_tenants(config.tenants), database="not shown")
        yield from lines("tenants", settings, tables["tenants"])
    if config.batches:
        own = replace(read_batches(config), database="not shown")
        yield from lines("batches", own, tables["batches"])
    if config.ray:
        yield from lines("ray", read_ray(config), tables["ray"])
    if config.kubernetes:
        yield from lines("kubernetes", read_kubernetes(config), tables["kubernetes"])
