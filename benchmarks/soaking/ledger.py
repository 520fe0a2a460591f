"""The ledger against what clients got, call by call.

What is owed: a call costs what its answer's `usage` says, or would say up to the token at which
its client left. A token counts just before it is written to the socket, so that nothing leaves
uncounted; the token that was being written when a gateway was killed may be counted and not have
left. So a call that was cut may cost one token more for each of its choices than its client has,
and never one less; every other call is exact. A client that is suddenly gone also pays for what
was on its way to it. What was rejected costs nothing and is not in the ledger.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.store.call_record import CANCELLED, FAILED, FINISHED, LOST
from soaking.call import Call, End

NOTICED_S = 5.0
"""A client that is suddenly gone is noticed within this time. What it had not read yet depends on
how far behind it was, and it pays for that: on a busy machine, for seconds of its stream."""


OUTCOMES = {
    End.FINISHED: (FINISHED,),
    End.LEFT: (FINISHED, CANCELLED),
    End.FAILED: (FAILED,),
}
"""What the ledger says of calls of which something came, when nobody was killed."""


@dataclass(frozen=True, slots=True)
class Row:
    id: str
    tenant: str
    key_id: str
    outcome: str
    prompt_tokens: int
    output_tokens: int
    ended_s: float
    """Since 1970."""


@dataclass
class Audit:
    """What the comparison found."""

    calls: int = 0
    """Records of clients' calls."""
    lines: int = 0
    """Records of lines of batches."""
    exact: int = 0
    """Calls whose record is their client's figure."""
    cut: int = 0
    cut_tokens_over: int = 0
    """Tokens that were counted and had not left when a gateway died."""
    gone: int = 0
    """Calls whose clients were suddenly gone."""
    gone_tokens_over: int = 0
    problems: Counter[str] = field(default_factory=Counter)


def read(database: Path) -> list[Row]:
    names = ", ".join(Row.__slots__)
    with sqlite3.connect(database) as connection:
        return [Row(*row) for row in connection.execute(f"select {names} from calls")]


def audit(
    rows: Sequence[Row], calls: Sequence[Call], batch_key: str, lines: Mapping[str, int]
) -> Audit:
    found = Audit()
    of_calls: dict[tuple[str, int], Row] = {}
    of_lines: dict[str, Row] = {}
    for row in rows:
        if row.key_id == batch_key:
            of_lines[row.id] = row
        elif (row.key_id, row.prompt_tokens) in of_calls:
            found.problems["a call is in the ledger twice"] += 1
        else:
            of_calls[row.key_id, row.prompt_tokens] = row
    found.calls, found.lines = len(of_calls), len(of_lines)
    for call in calls:
        _compare(call, of_calls.pop((call.key_id, call.prompt_tokens), None), found)
    if of_calls:
        found.problems["a record of a call that nobody made"] += len(of_calls)
    _compare_lines(of_lines, lines, found)
    return found


def _compare(call: Call, row: Row | None, found: Audit) -> None:
    if row is None:
        if call.end in (End.FINISHED, End.LEFT) or call.got_tokens:
            found.problems[f"no record of a call that was {call.end.value}"] += 1
        return
    over = row.output_tokens - call.got_tokens
    n = len(call.texts)
    if call.end is End.REJECTED:
        found.problems["a rejected call is in the ledger"] += 1
    elif call.end is End.LEFT and not call.says_so:
        _compare_gone(call, row, over, found)
    elif row.outcome == LOST:
        found.cut += 1
        found.cut_tokens_over += over
        if not 0 <= over <= n:
            found.problems[f"a call that was cut is off by {over:+d} tokens"] += 1
    elif call.end is End.CUT:
        _compare_cut_at_the_end(call, row, over, found)
    elif over:
        found.problems[f"a call that was {call.end.value} is off by {over:+d} tokens"] += 1
    elif row.outcome not in OUTCOMES[call.end]:
        found.problems[f"a call that was {call.end.value} is {row.outcome} in the ledger"] += 1
    else:
        found.exact += 1


def _compare_gone(call: Call, row: Row, over: int, found: Audit) -> None:
    """Its client was suddenly gone, and its gateway perhaps killed before it noticed."""
    found.gone += 1
    found.gone_tokens_over += over
    if not 0 <= over <= len(call.texts) * call.body["max_tokens"] - call.got_tokens:
        found.problems[f"a call whose client was gone is off by {over:+d} tokens"] += 1
    if row.outcome != LOST and row.ended_s - call.left_s > NOTICED_S:
        found.problems[f"a client was gone for over {NOTICED_S:g} s before it was noticed"] += 1


def _compare_cut_at_the_end(call: Call, row: Row, over: int, found: Audit) -> None:
    """Its gateway died after it had noted the end and before all of it was read."""
    found.cut += 1
    found.cut_tokens_over += over
    most = len(call.texts) if call.stream else len(call.texts) * call.body["max_tokens"]
    if not 0 <= over <= most or row.outcome != FINISHED:
        found.problems[f"a call that was cut at its end is off by {over:+d} tokens"] += 1


def _compare_lines(rows: Mapping[str, Row], lines: Mapping[str, int], found: Audit) -> None:
    for id, tokens in lines.items():
        row = rows.get(id)
        if row is None:
            found.problems["a line of a batch is not in the ledger"] += 1
        elif row.output_tokens != tokens:
            found.problems["a line of a batch has other tokens in the ledger"] += 1
    unknown = len(rows.keys() - lines.keys())
    if unknown:
        found.problems["a record of a line that no batch has"] += unknown


def check_totals(database: Path, found: Audit) -> None:
    """The sums by day are the sums of the records."""
    with sqlite3.connect(database) as connection:
        query = "select count(*), sum(prompt_tokens), sum(output_tokens) from calls"
        calls = connection.execute(query).fetchone()
        query = "select sum(calls), sum(prompt_tokens), sum(output_tokens) from totals"
        totals = connection.execute(query).fetchone()
    if calls != totals:
        found.problems[f"the sums {totals} are not those of the records {calls}"] += 1
