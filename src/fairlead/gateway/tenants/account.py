"""What a tenant has used, and whether it may have more now. Plain arithmetic; times are handed in,
in seconds since 1970."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.model import RequestError
from fairlead.store.periods import first_day, next_period_s
from fairlead.store.tenant import Tenant

BUSY_RETRY_S = 1.0
"""When somebody with too much under way should ask again: answers end all the time."""


class Rate:
    """A bucket that holds a minute's worth, and runs off at that rate."""

    def __init__(self) -> None:
        self._used = 0.0
        self._as_of_s = 0.0
        self._unsent = 0.0
        """Taken since the other gateways were told."""
        self._sent = 0.0
        """Of that, what they are being told now."""

    def take(self, amount: float, per_minute: float | None, now_s: float) -> None:
        self._used = self.used(per_minute, now_s) + amount
        self._as_of_s = max(now_s, self._as_of_s)
        self._unsent += amount

    def used(self, per_minute: float | None, now_s: float) -> float:
        gone = (per_minute or 0.0) / 60 * max(now_s - self._as_of_s, 0.0)
        return max(self._used - gone, 0.0)

    def wait_s(self, per_minute: float | None, now_s: float) -> float:
        """Seconds until there is room for one more; 0 where there is."""
        if per_minute is None:
            return 0.0
        over = self.used(per_minute, now_s) + 1 - per_minute
        return max(over, 0.0) * 60 / per_minute

    def tell(self) -> float:
        """What the others have not been told yet."""
        self._sent = self._unsent
        return self._sent

    def told(self, used: float, now_s: float) -> None:
        """All together have used so much, what was told included."""
        self._unsent -= self._sent
        self._sent = 0.0
        self._used = used + self._unsent
        self._as_of_s = now_s


class Account:
    """The live side of a tenant."""

    def __init__(self, rules: Tenant, now_s: float) -> None:
        self.rules = rules
        self.requests = Rate()
        self.tokens = Rate()
        self.n_under_way = 0
        self.n_elsewhere = 0
        """Under way at other gateways."""
        self.unsettled_tokens = 0
        """Prompt and output tokens of calls that the ledger does not know yet."""
        self._budget_used = 0
        self._budget_day = 0
        """Since which day that is."""
        self.seen_s = now_s
        """When it last called."""

    def enter(self, now_s: float) -> None:
        """One call more. Raises `RequestError` (429), and counts nothing, where it is too many."""
        self.seen_s = now_s
        rules = self.rules
        self._refuse_over_rate(rules.requests_per_minute, self.requests, "requests", now_s)
        self._refuse_over_rate(rules.tokens_per_minute, self.tokens, "tokens", now_s)
        self._refuse_over_budget(now_s)
        self.requests.take(1, rules.requests_per_minute, now_s)

    def open(self, n: int) -> None:
        """So many answers begin. Raises `RequestError` (429) where those are too many."""
        most = self.rules.max_concurrent
        under_way = self.n_under_way + self.n_elsewhere
        if most is not None and under_way + n > most:
            raise _limited(
                f"{under_way} answers are under way, and this tenant may have {most} at a time; "
                + (
                    "wait until some have ended" if n <= most else f"ask for fewer than {n} at once"
                ),
                "concurrency_limit_exceeded",
                BUSY_RETRY_S,
            )
        self.n_under_way += n

    def use(self, tokens: int, clock: Callable[[], float]) -> None:
        """Tokens of a prompt, or that go out; less than none where they come back."""
        self.unsettled_tokens += tokens
        per_minute = self.rules.tokens_per_minute
        if per_minute is not None:
            self.tokens.take(tokens, per_minute, clock())

    def close(self, n: int) -> None:
        self.n_under_way -= n

    def settle(self, tokens: int) -> None:
        """The ledger knows of these now."""
        self.unsettled_tokens -= tokens

    def budget_first_day(self, now_s: float) -> int:
        return first_day(self.rules.budget_period, now_s)

    def set_budget_used(self, tokens: int, day: int) -> None:
        """As the ledger has it, from that day on."""
        self._budget_used, self._budget_day = tokens, day

    def _refuse_over_rate(
        self, per_minute: int | None, rate: Rate, what: str, now_s: float
    ) -> None:
        wait_s = rate.wait_s(per_minute, now_s)
        if wait_s > 0:
            raise _limited(
                f"this tenant may use {per_minute} {what} per minute and has; try again in "
                f"{wait_s:.1f} s",
                f"{what}_per_minute_exceeded",
                wait_s,
            )

    def _refuse_over_budget(self, now_s: float) -> None:
        most, period = self.rules.budget_tokens, self.rules.budget_period
        if most is None:
            return
        # The ledger was asked in a period that is over: nothing of this one is used yet.
        ledger = self._budget_used if self._budget_day == self.budget_first_day(now_s) else 0
        used = ledger + self.unsettled_tokens
        if used >= most:
            when = {"day": "a day", "month": "a month", "total": "all"}[period]
            raise _limited(
                f"this tenant's budget of {most} tokens ({when}) is used up: {used} were used; "
                "ask whoever runs this service for more",
                "insufficient_quota",
                next_period_s(period, now_s),
            )


def _limited(message: str, code: str, retry_after_s: float | None) -> RequestError:
    return RequestError(
        message, status=429, code=code, kind="rate_limit_error", retry_after_s=retry_after_s
    )
