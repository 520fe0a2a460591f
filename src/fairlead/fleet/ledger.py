"""Who is at one instance: what the fleet sent there and has not heard the end of, exactly.

Each is one of three: pending until its first token from there has come, decoding, or on its way to
there with its KV.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.fleet.due_order import DueOrder
from fairlead.fleet.tracked import Tracked
from fairlead.model import InstanceId, RequestId

INFINITY = float("inf")


class Pending:
    """A request whose first token from here is still to come."""

    __slots__ = ("due_s", "pace_s", "patient", "places", "tokens")

    def __init__(
        self, tokens: int, end: int, due_s: float, patient: bool, pace_s: float | None = None
    ) -> None:
        """The last `tokens` of a context that ends at `end` are to be computed."""
        self.tokens = tokens
        self.places = tokens * (end - tokens / 2)
        """The sum of those tokens' places in the context: what attention to what comes before costs
        hangs on it."""
        self.due_s = due_s
        """When that first token is due; infinity: nothing is promised."""
        self.patient = patient
        """It lets others go first."""
        self.pace_s = pace_s
        """That its answer was promised; None: none was."""


class Ledger:
    """See the module."""

    __slots__ = (
        "_by_due",
        "_places",
        "attempts",
        "coming",
        "decoding",
        "n_patient",
        "pending",
        "promised_tokens",
        "running",
        "untimed_tokens",
    )

    def __init__(self) -> None:
        self.attempts: dict[RequestId, int] = {}
        """All of them, with the attempt that counts."""
        self.pending: dict[RequestId, Pending] = {}
        """In the order in which they were sent."""
        self.decoding: dict[RequestId, None] = {}
        """In the order in which they began."""
        self.coming: dict[RequestId, int] = {}
        """Requests that are handed off to here, with their contexts."""
        self.running = 0
        """Those who decode, and those who are on their way."""
        self.promised_tokens = 0
        """To be computed for those pending."""
        self.untimed_tokens = 0
        """Of them, for those who were promised nothing of their first token."""
        self._places = 0.0
        """The sum of all these tokens' places in their contexts."""
        self.n_patient = 0
        """Of those pending, who let others go first."""
        self._by_due: DueOrder | None = None
        """None: somebody came or went since it was asked for."""

    def send(self, request: RequestId, attempt: int, pending: Pending) -> None:
        self.attempts[request] = attempt
        self._await(request, pending)

    def begin(self, request: RequestId) -> Pending:
        """Its first token has come, and it decodes."""
        pending = self._await_no_more(request)
        self.decoding[request] = None
        self.running += 1
        return pending

    def preempt(self, request: RequestId, pending: Pending) -> None:
        """It decodes no more, and is to be computed again."""
        del self.decoding[request]
        self.running -= 1
        self._await(request, pending)

    def release(self, request: RequestId) -> Pending | None:
        """It is not here any more; None where it decoded."""
        del self.attempts[request]
        if request in self.pending:
            return self._await_no_more(request)
        del self.decoding[request]
        self.running -= 1
        return None

    def expect(self, request: RequestId, attempt: int, context_tokens: int) -> None:
        """It is on its way to here."""
        self.attempts[request] = attempt
        self.coming[request] = context_tokens
        self.running += 1

    def expect_no_more(self, request: RequestId) -> int:
        """It stays where it is. Returns the context that was expected."""
        del self.attempts[request]
        self.running -= 1
        return self.coming.pop(request)

    def arrive(self, request: RequestId) -> int:
        """It decodes here now. Returns the context that was expected."""
        self.decoding[request] = None
        return self.coming.pop(request)

    def _await(self, request: RequestId, pending: Pending) -> None:
        self.pending[request] = pending
        self.promised_tokens += pending.tokens
        if pending.due_s == INFINITY:
            self.untimed_tokens += pending.tokens
        self._places += pending.places
        self.n_patient += pending.patient
        self._by_due = None

    def _await_no_more(self, request: RequestId) -> Pending:
        pending = self.pending.pop(request)
        self.promised_tokens -= pending.tokens
        if pending.due_s == INFINITY:
            self.untimed_tokens -= pending.tokens
        self._places = self._places - pending.places if self.pending else 0.0
        self.n_patient -= pending.patient
        self._by_due = None
        return pending

    # ---------------------------------------------------------------- what follows from it

    def by_due(self) -> DueOrder:
        """Those pending, in the order in which they are due."""
        by_due = self._by_due
        if by_due is None:
            by_due = self._by_due = DueOrder(
                (pending.due_s, sent, pending.patient, pending.tokens, id)
                for sent, (id, pending) in enumerate(self.pending.items())
            )
        return by_due

    @property
    def usual_place(self) -> int:
        """Where in its context a token to be computed is, on average; 0 where there are none."""
        return int(self._places / self.promised_tokens) if self.promised_tokens else 0

    def unseen_tokens(self, inside: Mapping[RequestId, int]) -> int:
        """To be computed for those pending who are not `inside`."""
        return sum(pending.tokens for id, pending in self.pending.items() if id not in inside)

    def unseen_context(self, inside: Mapping[RequestId, int]) -> int:
        """Of those on their way who are not `inside`."""
        return sum(tokens for id, tokens in self.coming.items() if id not in inside)

    def held(self) -> list[RequestId]:
        """Requests that are here, those without a first token first."""
        return [*self.pending, *self.decoding]

    def check_invariants(self, here: InstanceId, requests: Mapping[RequestId, Tracked]) -> None:
        """It holds exactly what the fleet, which has `requests`, believes to be here."""
        held = self.held()
        assert len(set(held)) == len(held), f"{here}: pending and decoding at once"
        for id in held:
            assert id in requests, f"{here} holds {id}, which has ended"
            assert requests[id].instance == here, f"{here} holds {requests[id]!r}"
            assert requests[id].attempt == self.attempts[id], f"{here}: {requests[id]!r}"
        for id in self.coming:
            moving = requests[id].moving
            assert moving is not None, f"{here} waits for {id}, which does not move"
            assert (moving.target, moving.attempt) == (here, self.attempts[id])
        expected = {*held, *self.coming}
        assert expected == set(self.attempts), f"{here}: the ledger is not what is here"
        assert self.running == len(self.decoding) + len(self.coming), f"{here}: {self.running} run"
        tokens = sum(pending.tokens for pending in self.pending.values())
        assert self.promised_tokens == tokens, f"{here}: {tokens} tokens are pending"
        untimed = sum(one.tokens for one in self.pending.values() if one.due_s == INFINITY)
        assert self.untimed_tokens == untimed, f"{here}: {untimed} tokens are not due"
        n_patient = sum(pending.patient for pending in self.pending.values())
        assert self.n_patient == n_patient, f"{here}: {n_patient} are patient"
