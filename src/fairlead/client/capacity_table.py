"""The capacities of several policies as a table of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fairlead.client.figures import count, decimal, seconds, share
from fairlead.client.table import WIDTH

BAR = 14
SHORT_S = 60.0
"""A run that is over sooner has hardly seen a queue build up."""


def print_capacities(found: Mapping[str, Any], stderr: bool = False) -> None:
    console = Console(width=WIDTH, stderr=stderr, highlight=False)
    trace = PurePath(found["trace"]).stem
    head = f"{trace} · {found['fleet']} · {share(found['attain'])} of objectives met"
    console.print(Text(f"{head} · seed {found['seed']}", style="bold"))
    console.print(_table(found))
    for note in _notes(found):
        console.print(Text(f"note: {note}", style="yellow"))


def _table(found: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, width=WIDTH, pad_edge=False)
    table.add_column("policy", ratio=1, overflow="fold")
    table.add_column("", width=BAR, no_wrap=True)
    for name in (_unit(found), "met", "TTFT p99", "TPOT p99"):
        table.add_column(name, justify="right", no_wrap=True)
    most = max((policy["rate_rps"] or 0.0 for policy in found["policies"]), default=0.0)
    for policy in sorted(found["policies"], key=lambda p: -(p["rate_rps"] or 0.0)):
        rate, summary = policy["rate_rps"], policy["summary"]
        best = rate is not None and rate == most
        table.add_row(
            policy["label"],
            Text(_bar((rate or 0.0) / (most or 1.0)), style="green" if best else "blue"),
            f"[bold]{_rate(policy)}[/]" if best else _rate(policy),
            share(policy["attainment"] if rate else summary["attainment"]),
            seconds(summary["ttft_s"]["p99"]),
            seconds(summary["tpot_s"]["p99"]),
        )
    return table


def _unit(found: Mapping[str, Any]) -> str:
    closed = found["policies"][0]["summary"]["simulation"]["closed_loop"]
    return "sessions/s" if closed else "requests/s"


def _rate(policy: Mapping[str, Any]) -> str:
    if policy["rate_rps"] is None:
        return "none"
    return decimal(policy["rate_rps"]) if policy["bounded"] else f"> {decimal(policy['rate_rps'])}"


def _bar(fraction: float) -> str:
    """Eighths of a column, as terminals can show them."""
    eighths = round(8 * BAR * fraction)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest].strip())


def _notes(found: Mapping[str, Any]) -> list[str]:
    notes = []
    for policy in found["policies"]:
        label, duration_s = policy["label"], policy["summary"]["duration_s"]
        if policy["rate_rps"] is None:
            lowest = min(probe["rate_rps"] for probe in policy["probes"])
            notes.append(
                f"{label}: even at {decimal(lowest)} {_unit(found)} only "
                f"{share(policy['summary']['attainment'])} met their objective, so it is the "
                "objectives that no rate can keep"
            )
        elif not policy["bounded"]:
            n = count(policy["summary"]["requests"]["total"])
            notes.append(
                f"{label}: no rate was too high, not even all {n} requests at once; take a longer "
                "part of the trace, or objectives that ask for more"
            )
        elif duration_s < SHORT_S:
            notes.append(
                f"{label}: the run at that rate was over in {seconds(duration_s)}, too soon for a "
                "queue to build up; a longer trace will show less"
            )
    return notes
