"""What a request would get at one instance if it were sent there now, and what others would lose
by it."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.fleet.asked import Asked
from fairlead.fleet.estimate import CHUNK_TOKENS, Estimate
from fairlead.fleet.held_prefixes import HeldPrefixes
from fairlead.fleet.instance_queue import InstanceQueue
from fairlead.fleet.ledger import Ledger
from fairlead.fleet.lengths import OutputLengths
from fairlead.fleet.newest import Newest
from fairlead.fleet.paces import Added
from fairlead.fleet.present import Present
from fairlead.fleet.tracked import Tracked
from fairlead.model import RequestId, RequestView


class Predictions:
    """Times in seconds, from now. See `InstanceView` for what each of them is."""

    __slots__ = (
        "_asked",
        "_estimate",
        "_ledger",
        "_lengths",
        "_newest",
        "_prefixes",
        "_present",
        "_queue",
        "_requests",
    )

    def __init__(
        self,
        present: Present,
        ledger: Ledger,
        estimate: Estimate,
        queue: InstanceQueue,
        prefixes: HeldPrefixes,
        lengths: OutputLengths,
        requests: Mapping[RequestId, Tracked],
    ) -> None:
        """`requests` are all that the fleet has under way."""
        self._present = present
        self._ledger = ledger
        self._estimate = estimate
        self._queue = queue
        self._prefixes = prefixes
        self._lengths = lengths
        self._requests = requests
        self._asked: Asked | None = None
        """Of the last request that was asked about, until anything changes."""
        self._newest: Newest | None = None

    def forget(self) -> None:
        """Something has changed, and not only the time."""
        self._asked = None
        self._newest = None

    def ask(self, request: RequestView) -> Asked:
        """What is known of it here and now."""
        asked, now = self._asked, self._present.now
        if asked is None or asked.id != request.id or asked.as_of_s != now:
            self._estimate.advance()
            if request.id in self._ledger.pending:
                # Its prompt is expected here, and would look as if it were cached.
                uncached = self._queue.left_tokens(request.id)
            else:
                uncached = request.prompt_tokens - self._prefixes.cached_tokens(request)
            own_s = self._estimate.prompt_s(uncached, request.prompt_tokens)
            asked = self._asked = Asked(request.id, now, uncached, own_s)
        return asked

    # ---------------------------------------------------------------- what it would get

    def ttft_s(self, request: RequestView) -> float:
        asked = self.ask(request)
        if asked.ttft_s is None:
            ahead = self._queue.ahead(request)
            ahead_s = ahead.tokens / self._estimate.prefill_rate_per_s() if ahead.tokens else 0.0
            needed = ahead.tokens + asked.uncached
            memory_s = self._estimate.memory_s(needed, ahead.n + 1, self._lengths.mean)
            turn_s = self._queue.wait_s(request, ahead)
            asked.ttft_s = max(ahead_s + asked.own_s, memory_s, turn_s)
        return asked.ttft_s

    def least_ttft_s(self, request: RequestView) -> float:
        if request.id in self._ledger.pending:
            return 0.0
        uncached = request.prompt_tokens - self._prefixes.cached_tokens(request)
        # Contexts only grow until the estimate is brought up to the present, and steps with them.
        return self._estimate.prompt_s(uncached, request.prompt_tokens)

    def tpot_s(self, request: RequestView) -> float:
        self._estimate.advance()
        return self._tpot_s(request, self._lengths.expected(request))

    def _tpot_s(self, request: RequestView, output_tokens: float) -> float:
        ledger, estimate = self._ledger, self._estimate
        step_s = estimate.decode_s(ledger.running + len(ledger.pending) + 1)
        beside = self._queue.beside_tokens(request)
        if not beside:
            return step_s
        # Whatever prefill is queued is interleaved with its decoding.
        queued_s = beside / estimate.prefill_rate_per_s()
        return step_s + queued_s / max(output_tokens, 1.0)

    def e2e_s(self, request: RequestView) -> float:
        ttft_s = self.ttft_s(request)
        output_tokens = self._lengths.expected(request)
        if output_tokens <= 1.0:
            return ttft_s
        return ttft_s + (output_tokens - 1.0) * self._tpot_s(request, output_tokens)

    def yielding_s(self, request: RequestView) -> float:
        estimate = self._estimate
        estimate.advance()
        yielding = estimate.backlog_tokens - self._queue.beside_tokens(request)
        return yielding / estimate.prefill_rate_per_s() if yielding > 0 else 0.0

    # ---------------------------------------------------------------- what others would lose

    def added_s(self, request: RequestView) -> float:
        asked = self.ask(request)
        steps = -(-asked.uncached // CHUNK_TOKENS)
        return max(asked.own_s - steps * self._estimate.decode_s(self._ledger.running), 0.0)

    def broken_paces(self, request: RequestView) -> float:
        ledger, estimate = self._ledger, self._estimate
        if not (ledger.pending or ledger.decoding):
            return 0.0
        added_s = self.added_s(request)
        if added_s <= 0:
            return 0.0
        pause_s = estimate.pause_s()
        added = Added(
            added_s,
            pause_s * estimate.backlog_tokens,
            estimate.token_s(),
            estimate.token_s(added_s),
            self._lengths,
            estimate.as_of_s,
        )
        newest = self._newest
        if newest is None:
            newest = self._newest = Newest(ledger, self._requests)
        own = added.breaks_own(request.objective.tpot_s)
        waiting = added.breaks_of_waiting(newest.waiting, pause_s) * newest.weight_of_waiting
        by_and_by = added.breaks_by_and_by(newest.paces) * newest.weight_of_decoding
        return own + waiting + added.breaks_of_decoding(newest.decoding) + by_and_by
