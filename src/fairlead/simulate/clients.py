"""The clients of a run: they ask, read what is delivered, and leave a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from fairlead.fleet import Fleet
from fairlead.fleet.config import FleetConfig
from fairlead.model import (
    Arrived,
    BlockHash,
    Complete,
    Deliver,
    Outcome,
    ProgramId,
    Reject,
    Request,
    RequestId,
    TenantId,
)
from fairlead.simulate.heap import ARRIVAL, Heap
from fairlead.simulate.life import Life
from fairlead.simulate.settings import Settings
from fairlead.workload.arrivals import Arrivals
from fairlead.workload.objectives import ObjectiveDraw
from fairlead.workload.prefixes import block_names
from fairlead.workload.recorder import Recorder
from fairlead.workload.records import Ending, RequestRecord
from fairlead.workload.trace import TraceRow

ENDINGS: Mapping[Outcome, Ending] = {
    Outcome.FINISHED: Ending.FINISHED,
    Outcome.CANCELLED: Ending.CANCELLED,
    Outcome.FAILED: Ending.FAILED,
}


class Clients:
    """Everybody who asks something of the fleet. `records` grows while they do."""

    def __init__(
        self,
        config: FleetConfig,
        seed: int,
        heap: Heap,
        settings: Settings,
        fleet: Fleet,
        tell: Callable[[Arrived], None],
    ) -> None:
        """`tell` is called when the fleet is to decide about a request."""
        self.records = Recorder()
        self.open: dict[RequestId, Life] = {}
        self.lengths: dict[RequestId, int] = {}
        """True output lengths: what only an engine knows."""
        self.fleet = fleet
        """The one that serves them now."""
        self._heap = heap
        self._settings = settings
        self._tell = tell
        self._draw = ObjectiveDraw(config.workload, seed)
        self._apart = config.keeps_tenants_apart
        self._first_pool = config.pools[0]
        self._pools = {pool.model: pool for pool in reversed(config.pools)}
        self._rows: Iterator[TraceRow] = iter(())
        self._more = False
        self._follow: Callable[[TraceRow, float], TraceRow | None] | None = None
        self._to_follow = 0
        """Turns that will arrive, because the one before has ended."""
        self._arrived = 0
        self._progress: Callable[[int], None] | None = None

    @property
    def busy(self) -> bool:
        """False once everybody has asked what they wanted, and all of it has ended."""
        return bool(self._more or self.open or self._to_follow)

    def come(
        self, rows: Iterable[TraceRow] | Arrivals, progress: Callable[[int], None] | None
    ) -> None:
        """From now on the rows arrive, one after the other."""
        self._progress = progress
        if isinstance(rows, Iterable):
            self._rows = self._in_time(iter(rows))
        else:
            self._rows, self._follow = self._in_time(rows.rows()), rows.follow
        self._more = True
        self._next_arrival()

    # ---------------------------------------------------------------- asking

    def _next_arrival(self) -> None:
        row = next(self._rows, None)
        if row is None:
            self._more = False
        else:
            self._heap.at(row.arrival_s or 0.0, ARRIVAL, self._arrive, row)

    def _in_time(self, rows: Iterator[TraceRow]) -> Iterator[TraceRow]:
        """The rows at the times at which they arrive."""
        return rows

    def _arrive(self, row: TraceRow) -> None:
        self._next_arrival()
        self._ask(row)

    def _follow_up(self, row: TraceRow) -> None:
        """The next turn of a session, whose client waited for the last one."""
        self._to_follow -= 1
        self._ask(row)

    def _ask(self, row: TraceRow) -> None:
        request = self._request(row)
        self.lengths[request.id] = row.output_tokens
        self.open[request.id] = Life(request, row)
        self._arrived += 1
        if self._progress is not None and self._arrived % 1000 == 0:
            self._progress(self._arrived)
        settings = self._settings
        gateway_s = settings.gateway_s + settings.gateway_s_per_token * row.prompt_tokens
        if gateway_s > 0:
            self._heap.at(self._heap.now + gateway_s, ARRIVAL, self._tell, Arrived(request))
        else:
            self._tell(Arrived(request))

    def _request(self, row: TraceRow) -> Request:
        """What the row's client asks for: of the pool that serves its model, or of the first."""
        pool = self._pools.get(row.model, self._first_pool)
        salt = row.tenant.encode() if self._apart and not row.shares_prefixes else b""
        hashes: tuple[BlockHash, ...] = ()
        if row.hash_ids:
            hashes = block_names(row, pool.block_tokens, salt)
        most = row.max_tokens or self._settings.max_tokens
        if most:
            room = (pool.max_context or 1 << 60) - row.prompt_tokens
            most = max(min(most, room), row.output_tokens)
        return Request(
            RequestId(f"r{row.index}"),
            self._heap.now,
            row.prompt_tokens,
            most or row.output_tokens,
            self._draw.objective(row),
            pool.model,
            TenantId(row.tenant),
            program=None if row.program is None else ProgramId(row.program),
            block_hashes=hashes,
            cache_salt=salt,
        )

    # ---------------------------------------------------------------- being answered

    def deliver(self, action: Deliver) -> None:
        seen_s = self._heap.now + self._settings.client_s
        for row in action.rows:
            life = self.open[row.request]
            life.last_token_s = seen_s
            if life.first_token_s is None:
                life.first_token_s = seen_s
                self._remember_prediction(life)
            life.output_tokens += len(row.token_ids)

    def _remember_prediction(self, life: Life) -> None:
        tracked = self.fleet.requests.get(life.request.id)
        if tracked is not None:
            life.predicted_ttft_s = tracked.predicted_ttft_s
            life.predicted_e2e_s = tracked.predicted_e2e_s

    def complete(self, action: Complete) -> None:
        ending = ENDINGS[action.outcome]
        self._ended(action.request, ending, action.why.value, action.cached_tokens)

    def reject(self, action: Reject) -> None:
        self._ended(action.request, Ending.REJECTED, action.why.value, None)

    def fail(self, id: RequestId, why: str) -> None:
        """The gateway itself let it down."""
        self._ended(id, Ending.FAILED, why, None)

    def _ended(self, id: RequestId, ending: Ending, why: str, cached: int | None) -> None:
        life = self.open.pop(id)
        self._forget_length(id)
        now = self._heap.now
        request = life.request
        if self._follow is not None and (row := self._follow(life.row, now)) is not None:
            self._heap.at(row.arrival_s or 0.0, ARRIVAL, self._follow_up, row)
            self._to_follow += 1
        self.records.append(
            RequestRecord(
                id,
                request.arrival_s,
                ending,
                request.objective,
                request.tenant,
                life.row.program,
                life.first_token_s,
                life.last_token_s,
                now,
                (),
                request.prompt_tokens,
                life.output_tokens,
                cached,
                None,
                why,
                life.attempts > 1,
                life.instance,
                life.predicted_ttft_s,
                life.predicted_e2e_s,
            )
        )

    def _forget_length(self, id: RequestId) -> None:
        del self.lengths[id]
