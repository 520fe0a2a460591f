"""The last that came to one instance."""

from __future__ import annotations

from fairlead.fleet.ledger import Ledger, Pending
from fairlead.fleet.newest import LOOKED_AT, Newest
from fairlead.fleet.tracked import Tracked
from fairlead.model import Objective, RequestId
from tests.strategies import request


def ledger_of(*paces: float | None) -> tuple[Ledger, dict[RequestId, Tracked]]:
    """So many who wait, in this order, a hundred tokens each."""
    ledger, requests = Ledger(), {}
    for i, pace_s in enumerate(paces):
        id = RequestId(f"r{i}")
        requests[id] = Tracked(request(id, objective=Objective("x", tpot_s=pace_s)), 0.0)
        ledger.send(id, 1, Pending(100, 100, 1.0, patient=False, pace_s=pace_s))
    return ledger, requests


def test_who_was_promised_no_pace_keeps_others_waiting_and_is_not_asked() -> None:
    ledger, requests = ledger_of(0.05, None, 0.02)
    assert Newest(ledger, requests).waiting == [(0.02, 0), (0.05, 200)]
    for id in list(requests):
        ledger.begin(id)
    newest = Newest(ledger, requests)
    assert newest.waiting == []
    assert newest.decoding == [(0.02, requests[RequestId("r2")]), (0.05, requests[RequestId("r0")])]
    assert newest.paces == [(0.02, 1), (0.05, 1)]


def test_the_last_stand_for_all() -> None:
    ledger, requests = ledger_of(*[0.05] * (2 * LOOKED_AT))
    newest = Newest(ledger, requests)
    assert (len(newest.waiting), newest.weight_of_waiting) == (LOOKED_AT, 2.0)
    assert newest.weight_of_decoding == 1.0
