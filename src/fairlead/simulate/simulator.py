"""A fleet file and a trace, in virtual time: the shipped Fleet and Instances under one heap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fairlead import latency
from fairlead.fleet.config import FleetConfig, PoolConfig
from fairlead.instance import Instance
from fairlead.memory import chain_hashes
from fairlead.model import (
    Action,
    Arrived,
    BlockHash,
    Cancel,
    Complete,
    ConfigError,
    Deliver,
    Dispatch,
    Event,
    InstanceId,
    InstanceSpec,
    InstanceUp,
    Outcome,
    Reject,
    Request,
    RequestId,
    Tick,
)
from fairlead.observe.invariants import Checker
from fairlead.simulate.heap import Heap
from fairlead.simulate.node import ARRIVAL, MESSAGE, REPORT, TICK, Node
from fairlead.simulate.timeline import Timeline
from fairlead.workload.objectives import ObjectiveDraw
from fairlead.workload.percentiles import Histogram
from fairlead.workload.prompts import PRINTABLE_BYTES, PromptMaker
from fairlead.workload.records import Ending, RecordColumns, RequestRecord
from fairlead.workload.trace import TraceRow

DELAY_S = 0.0005
"""One way between gateway and instance: a frame on a quiet local network."""
REPORT_S = 0.5
"""As the gateway's heartbeat."""
TICK_S = 1.0


Observer = Callable[[Event, Sequence[Action], float], None]
"""Called after each event with what the fleet decided, and the virtual time."""


class Simulator:
    """One run. `records` grows while it runs."""

    def __init__(
        self,
        config: FleetConfig,
        seed: int = 0,
        *,
        observers: Sequence[Observer] = (),
        timeline_s: float | None = None,
    ) -> None:
        self.heap = Heap()
        self.gaps = Histogram()
        self.timeline = Timeline()
        self._observers = observers
        self._arrived = 0
        self._progress: Callable[[int], None] | None = None
        self.fleet = config.fleet(seed)
        self.records = RecordColumns()
        self._draw = ObjectiveDraw(config.workload, seed)
        self._prompts = PromptMaker(seed, PRINTABLE_BYTES)
        self._config = config
        self._checker = Checker()
        self._lengths: dict[RequestId, int] = {}
        self._open: dict[RequestId, RequestRecord] = {}
        self._nodes: dict[InstanceId, Node] = {}
        self._more = True
        for pool in config.pools:
            for i in range(pool.instances):
                self._start(pool, i, seed)
        self._every(TICK_S, TICK, lambda: self._tell(Tick()))

    def facts(self) -> dict[str, Any]:
        """What the run knows beside its records, for its `RunFacts`."""
        return {}

    def run(self, rows: Iterable[TraceRow], progress: Callable[[int], None] | None = None) -> None:
        """Plays the rows until the last of them has ended."""
        self._progress = progress
        coming = iter(rows)
        self._next_arrival(coming)
        while self._more or self._open:
            self.heap.run_next()

    # ---------------------------------------------------------------- the world

    def _start(self, pool: PoolConfig, i: int, seed: int) -> None:
        name = f"{pool.name}-{i}"
        policy = self._config.policy.build("batching", seed, name)
        spec = simulated_spec(pool, name, policy.urgent_first)
        instance = Instance(spec, policy, latency.from_coefficients(spec.latency))
        node = Node(instance, self.heap, self._lengths, self._tell_later)
        self._nodes[spec.id] = node
        self._tell(InstanceUp(spec))
        # Reports of different instances do not fall on one instant.
        first_s = REPORT_S * (i + 1) / (pool.instances + 1)
        self.heap.at(first_s, REPORT, lambda: self._every(REPORT_S, REPORT, node.report))

    def _every(self, period_s: float, rank: int, call: Callable[[], None]) -> None:
        call()
        again = partial(self._every, period_s, rank, call)
        self.heap.at(self.heap.now + period_s, rank, again)

    def _next_arrival(self, coming: Iterable[TraceRow]) -> None:
        row = next(iter(coming), None)
        if row is None:
            self._more = False
            return
        self.heap.at(row.arrival_s or 0.0, ARRIVAL, lambda: self._arrive(row, coming))

    def _arrive(self, row: TraceRow, coming: Iterable[TraceRow]) -> None:
        request = self._request(row)
        self._lengths[request.id] = row.output_tokens
        self._open[request.id] = RequestRecord(
            request.id,
            self.heap.now,
            Ending.FAILED,
            request.objective,
            tenant=request.tenant,
            prompt_tokens=request.prompt_tokens,
        )
        self._next_arrival(coming)
        self._arrived += 1
        if self._progress is not None and self._arrived % 1000 == 0:
            self._progress(self._arrived)
        self._tell(Arrived(request))

    def _request(self, row: TraceRow) -> Request:
        pool = self._config.pools[0]
        hashes: tuple[BlockHash, ...] = ()
        if row.hash_ids:
            hashes = chain_hashes(self._prompts.token_ids(row), pool.block_tokens)
        return Request(
            id=RequestId(f"r{row.index}"),
            arrival_s=self.heap.now,
            prompt_tokens=row.prompt_tokens,
            max_tokens=row.output_tokens,
            objective=self._draw.objective(row),
            model=pool.model,
            block_hashes=hashes,
        )

    # ---------------------------------------------------------------- the fleet

    def _tell_later(self, event: Event) -> None:
        self.heap.at(self.heap.now + DELAY_S, MESSAGE, lambda: self._tell(event))

    def _tell(self, event: Event) -> None:
        actions = self.fleet.handle(event, self.heap.now)
        self._checker.observe(event, actions, self.heap.now)
        for observe in self._observers:
            observe(event, actions, self.heap.now)
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Deliver():
                for row in action.rows:
                    self._delivered(row.request, len(row.token_ids))
            case Dispatch() | Cancel():
                node = self._nodes[action.instance]
                receive = partial(node.receive, action)
                self.heap.at(self.heap.now + DELAY_S, MESSAGE, receive)
            case Complete():
                finished = action.outcome is Outcome.FINISHED
                self._ended(
                    action.request,
                    Ending.FINISHED if finished else Ending.FAILED,
                    action.why.value,
                    action.cached_tokens,
                )
            case Reject():
                self._ended(action.request, Ending.REJECTED, action.why.value, None)

    def _delivered(self, id: RequestId, n: int) -> None:
        record, now = self._open[id], self.heap.now
        self._open[id] = replace(
            record,
            first_token_s=now if record.first_token_s is None else record.first_token_s,
            last_token_s=now,
            output_tokens=record.output_tokens + n,
        )

    def _ended(self, id: RequestId, ending: Ending, why: str, cached: int | None) -> None:
        record = replace(
            self._open.pop(id), ending=ending, why=why, ended_s=self.heap.now, cached_tokens=cached
        )
        del self._lengths[id]
        self.records.append(record)


def simulated_spec(pool: PoolConfig, name: str, urgent_first: bool) -> InstanceSpec:
    """What an instance of the pool would say of itself."""
    if pool.hardware == "auto":
        raise ConfigError(
            f"pool {pool.name!r}: a simulation cannot measure hardware; name a latency profile"
        )
    profile = latency.load_profile(pool.hardware)
    return InstanceSpec(
        id=InstanceId(name),
        pool=pool.name,
        model=pool.model,
        n_blocks=pool.n_blocks or profile.n_blocks(pool.block_tokens),
        block_tokens=pool.block_tokens,
        max_sequences=pool.max_sequences,
        max_waiting=pool.max_waiting,
        max_context=pool.max_context or profile.max_context,
        urgent_first=urgent_first,
        latency=profile.coefficients,
        hardware=pool.hardware,
    )
