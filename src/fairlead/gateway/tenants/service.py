"""Tenants with keys in a database. Nothing on a request's way waits for the database: keys and
limits are in memory, and what was used is written every half second."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fairlead.gateway.asked import Asked
from fairlead.gateway.tenants.account import Account
from fairlead.gateway.tenants.books import Books, Heard, Told
from fairlead.gateway.tenants.caller import Caller
from fairlead.gateway.tenants.config import TenantsConfig
from fairlead.gateway.tenants.door import Meter, no_such_key
from fairlead.gateway.tenants.journal import Journal
from fairlead.gateway.tenants.meter import CallMeter
from fairlead.model import RequestError
from fairlead.store.call_record import CallRecord
from fairlead.store.database import Database, StoreError
from fairlead.store.periods import DAY_S, date_of, day_of
from fairlead.store.secret import id_of, matches
from fairlead.store.shared_limits import Spent
from fairlead.store.tenant import Key, Role, Tenant

LOOK_AGAIN_S = 0.1
"""A key that nobody knows may be new: the database is asked, at most this often."""
ACTIVE_S = 60.0
"""Limits of tenants that called within this time are kept up to date."""
MAX_UNWRITTEN = 100_000
"""Calls that the ledger has still to take: with more, because the database does not answer, no
other begins."""
FORGET_EVERY_S = 3600.0
_log = logging.getLogger("fairlead.gateway")


class TenantService:
    """A `Door`."""

    def __init__(
        self,
        database: Database,
        config: TenantsConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is seconds since 1970. Raises `ConfigError` where there is no journal."""
        self._config = config
        self._clock = clock
        self._gateway = secrets.token_hex(8)
        self._books = Books(database, self._gateway)
        self._journal = Journal(Path(config.journal))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tenants")
        self._lock = asyncio.Lock()
        self._accounts: dict[str, Account] = {}
        self._keys: dict[str, Key] = {}
        self._seen = -1
        self._synced_s = float("-inf")
        self._n_begun = self._n_synced = 0
        """Times that the database was asked, and answered."""
        self._looking: asyncio.Task[bool] | None = None
        self._forgot_s = float("-inf")
        self._unwritten: list[tuple[CallRecord, Account, int]] = []
        self._syncing: asyncio.Task[None] | None = None
        self._n_calls = 0
        self._stopped = False

    async def start(self) -> None:
        """Tenants and keys are known, and what gateways that died had sent is in the ledger. Raises
        where the database does not answer."""
        if self._journal.left:
            await self._ask(self._books.write, list(self._journal.left))
            _log.warning("tenants.recovered calls=%d", len(self._journal.left))
        self._journal.forget_left()
        await self.sync()
        await self.sync()  # Of tenants that are known now, their budgets.
        self._syncing = asyncio.create_task(self._keep_syncing())

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self._syncing is not None:
            self._syncing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._syncing
            with contextlib.suppress(StoreError):
                await self.sync()
                await self._ask(self._books.leave, self._clock())
        self._thread.shutdown()
        self._books.close()
        self._journal.close()

    # ---------------------------------------------------------------- who

    async def caller(self, key: bytes | None) -> Caller:
        if key is None or (id := id_of(key)) is None:
            raise no_such_key()
        known = self._keys.get(id)
        if known is None:
            await self._look_again()
            known = self._keys.get(id)
        if not matches(key, None if known is None else known.digest) or known is None:
            raise no_such_key()
        if not known.is_valid(self._clock()):
            was = "was revoked" if known.revoked_s is not None else "has expired"
            raise no_such_key(f"the API key {known.id} {was}; ask whoever runs this for another")
        return self._enabled(self._accounts[known.tenant].rules, known.id, known.role)

    def known(self, tenant: str, key_id: str) -> Caller:
        key, account = self._keys.get(key_id), self._accounts.get(tenant)
        if account is None:
            raise no_such_key(f"there is no tenant {tenant}")
        return self._enabled(account.rules, key_id, Role.USER if key is None else key.role)

    @staticmethod
    def _enabled(rules: Tenant, key_id: str, role: Role) -> Caller:
        if not rules.enabled:
            raise RequestError(
                f"the tenant {rules.name} is disabled; ask whoever runs this service",
                status=403,
                code="tenant_disabled",
                kind="permission_error",
            )
        return Caller(rules.name, rules, key_id, role)

    async def _look_again(self) -> None:
        """Returns when the database was asked after this call was made, or does not answer."""
        due = self._n_begun + 1
        while self._n_synced < due:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            if not await asyncio.shield(self._looking):
                return

    async def _look(self) -> bool:
        """For all who wait for it."""
        await asyncio.sleep(max(LOOK_AGAIN_S - (self._clock() - self._synced_s), 0.0))
        try:
            await self.sync()
        except StoreError:
            return False
        return True

    # ---------------------------------------------------------------- how much

    def check(self, caller: Caller) -> None:
        self._accounts[caller.name].enter(self._clock())

    def open(self, caller: Caller, asked: Asked, id: str = "") -> Meter:
        if len(self._unwritten) >= MAX_UNWRITTEN:
            raise RequestError(
                "usage cannot be recorded now; try again later",
                status=503,
                code="ledger_unavailable",
                kind="server_error",
                retry_after_s=self._config.sync_s,
            )
        self._n_calls += 1
        return CallMeter(
            id or f"{self._gateway}-{self._n_calls}",
            (caller.name, caller.key_id, asked.model, asked.requests[0].objective.name),
            asked,
            self._accounts[caller.name],
            self._journal,
            self._clock,
            self._ended,
        )

    def _ended(self, call: CallRecord, account: Account, slot: int) -> None:
        self._unwritten.append((call, account, slot))

    async def usage(self, caller: Caller, tenant: str | None, days: int) -> list[dict[str, Any]]:
        if caller.role is not Role.ADMIN:
            if tenant not in (None, caller.name):
                raise RequestError(
                    "this key sees what its own tenant used; others need the role admin",
                    status=403,
                    code="admin_only",
                    kind="permission_error",
                )
            tenant = caller.name
        await self.sync()
        first = max(day_of(self._clock()) - days + 1, 0)
        by = ("tenant", "model", "day")
        found: list[dict[str, Any]] = await self._ask(self._books.usage.totals, by, tenant, first)
        return [{**row, "day": date_of(row["day"])} for row in found]

    # ---------------------------------------------------------------- the database

    async def _keep_syncing(self) -> None:
        while True:
            await asyncio.sleep(self._config.sync_s)
            try:
                await self.sync()
                await self._forget_old_calls()
            except StoreError as error:
                # Keys and limits stay as they were; calls wait to be written.
                _log.error("tenants.database_failed error=%s", str(error).split("\n")[0])

    async def sync(self) -> None:
        """Tells the database what happened here, and hears what happened elsewhere. Raises where it
        does not answer: then nothing was told."""
        async with self._lock:
            now_s = self._clock()
            self._n_begun += 1
            unwritten = list(self._unwritten)
            active = [
                account
                for account in self._accounts.values()
                if account.n_under_way or now_s - account.seen_s < ACTIVE_S
            ]
            told = self._told(unwritten, active, now_s)
            heard = await self._ask(self._books.exchange, told, now_s)
            self._synced_s = self._clock()
            self._n_synced = self._n_begun
            del self._unwritten[: len(unwritten)]
            for call, account, slot in unwritten:
                account.settle(call.tokens)
                self._journal.free(slot)
            self._hear(told, heard, now_s)

    def _told(
        self, unwritten: list[tuple[CallRecord, Account, int]], active: list[Account], now_s: float
    ) -> Told:
        spent = []
        for account in active:
            rules = account.rules
            if rules.requests_per_minute is not None:
                amount = account.requests.tell()
                spent.append(Spent(rules.name, "requests", amount, rules.requests_per_minute))
            if rules.tokens_per_minute is not None:
                amount = account.tokens.tell()
                spent.append(Spent(rules.name, "tokens", amount, rules.tokens_per_minute))
        return Told(
            [call for call, _, _ in unwritten],
            sorted(spent, key=lambda one: (one.tenant, one.what)),
            {a.rules.name: a.n_under_way for a in active if a.rules.max_concurrent is not None},
            {
                a.rules.name: a.budget_first_day(now_s)
                for a in active
                if a.rules.budget_tokens is not None
            },
            self._seen,
        )

    def _hear(self, told: Told, heard: Heard, now_s: float) -> None:
        for one, used in zip(told.spent, heard.used, strict=True):
            account = self._accounts[one.tenant]
            (account.requests if one.what == "requests" else account.tokens).told(used, now_s)
        for tenant in told.under_way:
            self._accounts[tenant].n_elsewhere = heard.elsewhere.get(tenant, 0)
        for tenant, day in told.budget_days.items():
            self._accounts[tenant].set_budget_used(heard.budgets[tenant], day)
        if heard.changed is not None:
            self._seen, tenants, keys = heard.changed
            self._keys = {key.id: key for key in keys}
            for rules in tenants:
                self._set_rules(rules)

    def _set_rules(self, rules: Tenant) -> None:
        account = self._accounts.get(rules.name)
        if account is None:
            self._accounts[rules.name] = Account(rules, self._clock())
        else:
            account.rules = rules

    async def _forget_old_calls(self) -> None:
        now_s = self._clock()
        if now_s - self._forgot_s > FORGET_EVERY_S:
            self._forgot_s = now_s
            before_s = now_s - self._config.keep_calls_days * DAY_S
            await self._ask(self._books.usage.forget_before, before_s)

    async def _ask(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """In the one thread that talks to the database."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
