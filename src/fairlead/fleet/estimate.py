"""What one instance has still to compute and how full it is: an estimate that goes on with time.

Between reports the backlog is worked off and contexts grow by the same latency model that the
instance plans by. Nothing is counted per token, and the next report sets it right.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.fleet.flow import PromptFlow
from fairlead.fleet.ledger import Ledger
from fairlead.fleet.present import Present
from fairlead.fleet.prices import StepPrices
from fairlead.model import InstanceSpec, Report, RequestId

CHUNK_TOKENS = 2048
"""Prefill is priced in steps of this size; what instances really use is theirs to know."""
LEAST_LEFT = 0.01
"""The part of the time that is left to those who decode, however many prompts come."""


class Estimate:
    """Is of `as_of_s`; `advance` brings it up to the present."""

    __slots__ = (
        "_block_tokens",
        "_ledger",
        "_max_sequences",
        "_present",
        "_prices",
        "_rate_per_s",
        "as_of_s",
        "backlog_tokens",
        "context_tokens",
        "free_tokens",
        "prompts",
    )

    def __init__(self, spec: InstanceSpec, present: Present, ledger: Ledger) -> None:
        self._block_tokens = spec.block_tokens
        self._max_sequences = spec.max_sequences
        self._present = present
        self._ledger = ledger
        self._prices = StepPrices(spec)
        self._rate_per_s: float | None = None
        """Prefill tokens worked off a second at the present batch; None: to be priced again."""
        self.prompts = PromptFlow()
        """Those that keep coming."""
        self.as_of_s = present.now
        self.backlog_tokens = 0.0
        """Of those pending, tokens that are not computed yet."""
        self.context_tokens = 0.0
        """Of the decoding requests."""
        self.free_tokens = float(spec.n_blocks * spec.block_tokens)
        """Room in memory: cached prefixes included, and what those pending are going to take."""

    def advance(self) -> None:
        """Up to the present: the backlog is worked off, and the contexts have grown."""
        elapsed_s = self._present.now - self.as_of_s
        if elapsed_s <= 0:
            return
        self.as_of_s = self._present.now
        ledger = self._ledger
        if self.backlog_tokens > 0:
            left = self.backlog_tokens - elapsed_s * self.prefill_rate_per_s()
            # While something is pending, something is left to do for it.
            n_pending = len(ledger.pending)
            self.backlog_tokens = left if left > n_pending else float(n_pending)
        if ledger.running:
            grown = ledger.running * elapsed_s / self.decode_s(ledger.running)
            self.context_tokens += grown
            self.free_tokens -= grown

    # ---------------------------------------------------------------- what the ledger was told

    def queue(self, tokens: int) -> None:
        """So many more are to be computed."""
        self.backlog_tokens += tokens

    def unqueue(self, tokens: int) -> None:
        """Not any more."""
        self.backlog_tokens -= min(tokens, self.backlog_tokens)

    def begin(self, tokens: int, context_tokens: int) -> None:
        """Somebody for whom so many were to be computed decodes with this context."""
        self.context_tokens += context_tokens
        self.free_tokens -= tokens
        if self.backlog_tokens:
            self.backlog_tokens = min(self.backlog_tokens, float(self._ledger.promised_tokens))

    def end(self, context_tokens: int) -> None:
        """Somebody with this context decodes no more."""
        left = self.context_tokens - context_tokens
        if left < 0 or not self._ledger.decoding:
            left = 0.0  # What is left of an estimate is not less than nothing.
        self.free_tokens += self.context_tokens - left
        self.context_tokens = left

    def reserve(self, context_tokens: int) -> None:
        """Somebody with this context is on the way to here."""
        self.free_tokens -= context_tokens

    def unreserve(self, context_tokens: int) -> None:
        """And does not come."""
        self.free_tokens += context_tokens

    def arrive(self, reserved_tokens: int, context_tokens: int) -> None:
        """And has come, with a context that has grown on the way."""
        self.free_tokens += reserved_tokens - context_tokens
        self.context_tokens += context_tokens

    def correct(self, report: Report, inside: Mapping[RequestId, int]) -> None:
        """Replaces it by a report, beside what the ledger has and the report does not know.

        `inside` are the report's requests with their attempts."""
        ledger = self._ledger
        self._prices.slow_down(report.slowdown)
        self.backlog_tokens = float(report.queued_tokens + ledger.unseen_tokens(inside))
        self.free_tokens = float((report.free_blocks + report.cached_blocks) * self._block_tokens)
        self.free_tokens -= ledger.unseen_context(inside)
        self.context_tokens = float(report.context_tokens) if ledger.decoding else 0.0
        self.as_of_s = self._present.now
        self.reprice()

    # ---------------------------------------------------------------- prices

    def reprice(self) -> None:
        """Somebody came, went, or changed places: the rate is not what it was."""
        self._rate_per_s = None

    def decode_s(self, batch: int) -> float:
        """A step in which so many decode."""
        return self._prices.decode_s(batch, self.context_tokens)

    def stretch_s(self, context_tokens: int) -> float:
        """By how much a step with one more sequence, of this context, takes longer."""
        return self._prices.stretch_s(self._ledger.running, self.context_tokens, context_tokens)

    def token_s(self, pause_s: float = 0.0, prompts_at_most: float = 1.0) -> float:
        """What a token of one more takes with the prompts that keep coming, one more of this pause
        among them; they take this part of the time at most."""
        share = min(self.prompts.share(self.as_of_s, pause_s), prompts_at_most)
        return self.decode_s(self._ledger.running + 1) / max(1 - share, LEAST_LEFT)

    def prefill_rate_per_s(self) -> float:
        """Tokens of the backlog that are computed in a second."""
        rate_per_s = self._rate_per_s
        if rate_per_s is None:
            ledger, context = self._ledger, int(self.context_tokens)
            start = max(ledger.usual_place - CHUNK_TOKENS // 2, 0)
            step_s = self._prices.prefill_s(ledger.running, context, CHUNK_TOKENS, start)
            rate_per_s = self._rate_per_s = CHUNK_TOKENS / step_s
        return rate_per_s

    def pause_s(self) -> float:
        """For how long computing one of them keeps those who decode from their next token."""
        step_s = self.decode_s(self._ledger.running + 1)
        return max(1 / self.prefill_rate_per_s() - step_s / CHUNK_TOKENS, 0.0)

    def prompt_s(self, tokens: int, end: int) -> float:
        """Computing the last `tokens` of a prompt that ends at `end`, beside those who decode."""
        steps, chunk, start = 1.0, tokens, end - tokens
        if tokens > CHUNK_TOKENS:
            # Price the middle chunk: their cost grows linearly with their start.
            steps, chunk = tokens / CHUNK_TOKENS, CHUNK_TOKENS
            start = end - tokens // 2 - CHUNK_TOKENS // 2
        batch, context = self._ledger.running, int(self.context_tokens)
        return steps * self._prices.prefill_s(batch, context, chunk, start)

    def memory_s(self, needed: float, seats: int, answer_tokens: float) -> float:
        """Until those who run have made room for `needed` tokens in so many `seats`, if answers are
        about this long."""
        running = self._ledger.running
        missing = needed - self.free_tokens
        seats_missing = running + seats - self._max_sequences
        if missing <= 0 and seats_missing <= 0:
            return 0.0
        lifetime_s = max(answer_tokens, 1.0) * self.decode_s(running)
        wait_s = max(seats_missing / self._max_sequences, 0.0) * lifetime_s
        if missing > 0 and self.context_tokens > 0:
            # All of the context turns over once in a lifetime.
            wait_s = max(wait_s, missing / self.context_tokens * lifetime_s)
        return wait_s
