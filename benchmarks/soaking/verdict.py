"""What must hold at the end of a soak, and whether it does."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fairlead import __version__
from soaking import ledger
from soaking.call import End
from soaking.gauges import (
    MAX_GROWTH,
    MAX_GROWTH_MB,
    MAX_MORE_FILES,
    MIN_SETTLED_S,
    MIN_WATCHED_S,
    trend,
)
from soaking.plan import SEATS
from soaking.run import Soak

Row = tuple[str, str, bool]


def judge(soak: Soak) -> tuple[list[Row], list[str]]:
    """What must hold: its name, what was found, whether it holds. And all problems in words."""
    traffic, offline = soak.traffic, soak.offline
    found = ledger.audit(
        ledger.read(soak.fleet.database), traffic.calls, offline.key_id, offline.tokens
    )
    ledger.check_totals(soak.fleet.database, found)
    ends = Counter(call.end for call in traffic.calls)
    problems = [
        f"{n}x {what}"
        for c in (traffic.problems, offline.problems, found.problems)
        for what, n in c.most_common(20)
    ]
    rows: list[Row] = [
        (
            "lines of batches lost, repeated",
            f"{offline.lost}, {offline.repeated} of {offline.lines}",
            not (offline.lost or offline.repeated or offline.problems) and offline.lines > 0,
        ),
        (
            "tokens lost, repeated or others; calls failed",
            f"{sum(traffic.problems.values())} calls of {len(traffic.calls)}",
            not traffic.problems and ends[End.FINISHED] > 0,
        ),
        (
            "ledger against clients, call by call",
            f"{found.exact} exact; {found.cut} cut, {found.cut_tokens_over} tokens over; "
            f"{found.gone} gone, {found.gone_tokens_over} over; {found.lines} lines; "
            f"{sum(found.problems.values())} wrong",
            not found.problems and found.exact > 0,
        ),
        (
            "stuck at the end: clients, requests at the gateway",
            f"{soak.stuck}, {soak.left_under_way}",
            soak.stuck == 0 and soak.left_under_way == 0,
        ),
        *_trends(soak),
        (
            "after the end: exit status, processes left",
            f"{soak.exit_status}, {soak.left_processes}",
            soak.exit_status == 0 and soak.left_processes == 0,
        ),
    ]
    return rows, problems


def _trends(soak: Soak) -> list[Row]:
    steady = soak.gauges.steady()
    memory = trend(steady, lambda s: s.rss_mb)
    long, settled = memory.lasted_s >= MIN_WATCHED_S, memory.lasted_s >= MIN_SETTLED_S
    files = trend(steady, lambda s: s.files - s.seats)
    n = trend(steady, lambda s: s.processes)
    most = max((s.processes for s in soak.gauges.samples), default=0)
    # A gateway, its workers, and ours.
    due = soak.plan.instances + 1
    return [
        (
            f"memory of the gateway, over its last {memory.lasted_s:.0f} s",
            f"{memory.median:.0f} MB, {memory.growth:+.1f} MB" + _judged(long),
            not long or memory.growth <= max(MAX_GROWTH_MB, MAX_GROWTH * memory.median),
        ),
        (
            "its file descriptors beside clients'",
            f"{files.median:.0f}, {files.growth:+.1f}" + _judged(settled),
            not settled or files.growth <= MAX_MORE_FILES,
        ),
        (
            "processes (at most)",
            f"{n.median:.0f} ({most}), {n.growth:+.1f}" + _judged(settled),
            (not settled or n.median == due) and most <= due + soak.plan.instances,
        ),
    ]


def _judged(it_is: bool) -> str:
    return "" if it_is else ", not judged"


def show(soak: Soak, rows: list[Row], problems: list[str]) -> None:
    plan = soak.plan
    kills = Counter(who for _, who in soak.fleet.deaths)
    ends = Counter(call.end.value for call in soak.traffic.calls)
    tokens = sum(call.got_tokens for call in soak.traffic.calls) + sum(soak.offline.tokens.values())
    print(
        f"fairlead {__version__}; seed {plan.seed}; {plan.instances} instances, {plan.clients} "
        f"clients ({plan.load:.0%} of the seats); {soak.lasted_s:.0f} s; killed "
        f"{kills['worker']} workers and {kills['gateway']} gateways; {tokens:,} output tokens"
    )
    print("calls: " + ", ".join(f"{n} {end}" for end, n in ends.most_common()))
    why = Counter(call.said for call in soak.traffic.calls if call.end is End.REJECTED)
    print("rejected: " + ", ".join(f"{n} {said}" for said, n in why.most_common()))
    busy = fmean(sample.seats for sample in soak.gauges.samples) / (plan.instances * SEATS)
    print(
        f"seats that clients had: {busy:.0%} on average; the last gateway carried "
        f"{soak.resumed:.0f} requests over to another worker"
    )
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("what must hold", "found", ""):
        table.add_column(title)
    for name, value, holds in rows:
        table.add_row(name, value, "holds" if holds else "DOES NOT HOLD")
    console = Console(highlight=False)
    console.print(table)
    for problem in problems:
        print(f"  {problem}")


def as_json(soak: Soak, rows: list[Row], problems: list[str]) -> dict[str, Any]:
    return {
        "fairlead": __version__,
        "seed": soak.plan.seed,
        "duration_s": soak.plan.duration_s,
        "lasted_s": soak.lasted_s,
        "instances": soak.plan.instances,
        "clients": soak.plan.clients,
        "killed": dict(Counter(who for _, who in soak.fleet.deaths)),
        "calls": dict(Counter(call.end.value for call in soak.traffic.calls)),
        "lines": soak.offline.lines,
        "results": [dict(zip(("name", "found", "holds"), row, strict=True)) for row in rows],
        "problems": problems,
        "samples": soak.gauges.as_json(),
    }
