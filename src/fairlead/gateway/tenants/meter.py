"""Counts a call while its tokens go out, and writes every count where kill -9 cannot reach."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.gateway.asked import Asked
from fairlead.gateway.driver import Outlet
from fairlead.gateway.tenants.account import Account
from fairlead.gateway.tenants.journal import Journal
from fairlead.model import Complete, Reject
from fairlead.store.call_record import FAILED, CallRecord
from fairlead.worker import wire


class CallMeter:
    """Of one call."""

    def __init__(
        self,
        id: str,
        names: tuple[str, str, str, str],
        asked: Asked,
        account: Account,
        journal: Journal,
        clock: Callable[[], float],
        ended: Callable[[CallRecord, Account, int], None],
    ) -> None:
        """`names` are tenant, key, model and tier; `ended` takes the record, and the journal's slot
        that holds it until the ledger does. Raises `RequestError` (429)."""
        account.open(len(asked.requests))
        account.use(asked.prompt_tokens, clock)
        self._id = id
        self._names = names
        self._n = len(asked.requests)
        self._prompt_tokens = asked.prompt_tokens
        self._streamed = asked.stream
        self._output_tokens = 0
        self._account = account
        self._journal = journal
        self._clock = clock
        self._ended = ended
        self._slot = journal.begin(id, *names, asked.prompt_tokens, clock())

    def watch(self, outlet: Outlet) -> Outlet:
        return _Counted(outlet, self)

    def count(self, tokens: int) -> None:
        """Tokens are about to go out."""
        self._output_tokens += tokens
        if self._streamed:
            self._journal.sent(self._slot, self._output_tokens)
        self._account.use(tokens, self._clock)

    def end(self, outcome: str, cached_tokens: int) -> None:
        account = self._account
        account.close(self._n)
        if outcome == FAILED and not (self._streamed and self._output_tokens):
            # Rejected, or let down, and the client has got nothing: it was nobody's use.
            account.use(-self._prompt_tokens - self._output_tokens, self._clock)
            self._journal.free(self._slot)
            return
        counts = (self._prompt_tokens, cached_tokens, self._output_tokens)
        record = CallRecord(self._id, *self._names, outcome, self._clock(), *counts)
        self._journal.end(self._slot, record)
        self._ended(record, account, self._slot)


class _Counted:
    """An outlet whose tokens are counted before they go out: what was counted last may not have
    left when the gateway is killed, but nothing leaves uncounted."""

    __slots__ = ("_count", "_outlet", "_push")

    def __init__(self, outlet: Outlet, meter: CallMeter) -> None:
        self._outlet = outlet
        self._push = outlet.push
        self._count = meter.count

    def push(self, row: wire.Row) -> None:
        self._count(len(row.token_ids))
        self._push(row)

    def complete(self, action: Complete) -> None:
        self._outlet.complete(action)

    def reject(self, action: Reject) -> None:
        self._outlet.reject(action)
