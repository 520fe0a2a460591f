"""A fleet file and a trace, in virtual time: the shipped Fleet and Instances under one heap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any, Protocol, runtime_checkable

from fairlead import latency
from fairlead.fleet.config import FleetConfig, PoolConfig
from fairlead.instance import Instance
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
    TenantId,
    Tick,
)
from fairlead.observe.digest import Digest
from fairlead.simulate.heap import ARRIVAL, REPORT, TICK, Heap
from fairlead.simulate.life import Life
from fairlead.simulate.network import Link
from fairlead.simulate.node import Node
from fairlead.simulate.settings import read_settings
from fairlead.simulate.timeline import Sampler, Timeline
from fairlead.workload.objectives import ObjectiveDraw
from fairlead.workload.percentiles import Histogram
from fairlead.workload.records import Ending, RecordColumns, RequestRecord
from fairlead.workload.summary import InstanceFigures
from fairlead.workload.trace import TraceRow

Observer = Callable[[Event, Sequence[Action], float], None]
"""Called after each event with what the fleet decided, and the virtual time."""


@runtime_checkable
class Arrivals(Protocol):
    """Requests that arrive by themselves, and those whose client waits for an earlier one."""

    def rows(self) -> Iterator[TraceRow]: ...
    def follow(self, row: TraceRow, ended_s: float) -> TraceRow | None: ...


class Simulator:
    """One run. `records` grows while it runs."""

    def __init__(
        self,
        config: FleetConfig,
        seed: int = 0,
        *,
        observers: Sequence[Observer] = (),
        timeline_s: float | None = None,
        single_steps: bool = False,
    ) -> None:
        self.heap = Heap()
        self.settings = read_settings(config)
        self.fleet = config.fleet(seed)
        self.records = RecordColumns()
        self.gaps = Histogram()
        self.timeline = Timeline()
        self._config = config
        self._seed = seed
        self._single_steps = single_steps
        self._observers = tuple(observers)
        self._digest = Digest()
        self._draw = ObjectiveDraw(config.workload, seed)
        self._lengths: dict[RequestId, int] = {}
        self._open: dict[RequestId, Life] = {}
        self._nodes: dict[InstanceId, Node] = {}
        self._links: dict[InstanceId, Link] = {}
        """From the fleet to each instance."""
        self._rows: Iterator[TraceRow] = iter(())
        self._more = False
        self._follow: Callable[[TraceRow, float], TraceRow | None] | None = None
        self._to_follow = 0
        """Turns that will arrive, because the one before has ended."""
        self._arrived = 0
        self._progress: Callable[[int], None] | None = None
        self._carry_out: dict[type[Any], Callable[[Any], None]] = {
            Deliver: self._deliver,
            Dispatch: self._send,
            Cancel: self._send,
            Complete: self._complete,
            Reject: self._reject,
        }
        for pool in config.pools:
            for i in range(pool.instances):
                self._start(pool, i)
        self.heap.at(self.settings.tick_s, TICK, self._tick, None)
        if timeline_s is not None:
            self._sampler = Sampler(self.timeline, timeline_s)
            self._sample(None)

    def facts(self) -> dict[str, Any]:
        """What the run knows beside its records, for its `RunFacts`."""
        instances = [node.instance for node in self._nodes.values()]
        up_s = self.heap.now * len(instances)
        busy_s = sum(instance.busy_s for instance in instances)
        return {
            "preemptions": sum(instance.preemptions for instance in instances),
            "instances": InstanceFigures(
                n_max=len(instances),
                hours=up_s / 3600,
                busy_fraction=busy_s / up_s if up_s else None,
            ),
            "digest": self._digest.hexdigest(),
        }

    def run(
        self,
        rows: Iterable[TraceRow] | Arrivals,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Plays the rows until the last of them has ended, and those that follow upon an end."""
        self._progress = progress
        self._follow = getattr(rows, "follow", None)
        self._rows = rows.rows() if isinstance(rows, Arrivals) else iter(rows)
        self._more = True
        self._next_arrival()
        heap = self.heap
        while self._more or self._open or self._to_follow:
            heap.run_next()

    # ---------------------------------------------------------------- instances

    def _start(self, pool: PoolConfig, i: int) -> None:
        name = f"{pool.name}-{i}"
        policy = self._config.policy.build("batching", self._seed, name)
        if policy.oracle is not None:
            policy.oracle.lengths = self._lengths
        spec = simulated_spec(pool, name, policy.urgent_first)
        instance = Instance(spec, policy, latency.from_coefficients(spec.latency))
        link = self._link(f"{name} to fleet")
        node = Node(
            instance,
            self.heap,
            self._lengths,
            partial(link.send, self._hear),
            self.gaps,
            single_steps=self._single_steps,
        )
        self._nodes[spec.id] = node
        self._links[spec.id] = self._link(f"fleet to {name}")
        self._tell(InstanceUp(spec))
        # Reports of different instances do not fall on one instant.
        first_s = self.settings.report_s * (i + 1) / (pool.instances + 1)
        self.heap.at(first_s, REPORT, self._report, node)

    def _link(self, name: str) -> Link:
        return Link(self.heap, self.settings, Random(f"{self._seed} link {name}"))

    def _report(self, node: Node) -> None:
        node.report()
        self.heap.at(self.heap.now + self.settings.report_s, REPORT, self._report, node)

    def _tick(self, _: None) -> None:
        self._tell(Tick())
        self.heap.at(self.heap.now + self.settings.tick_s, TICK, self._tick, None)

    def _sample(self, _: None) -> None:
        now = self.heap.now
        self._sampler.sample([node.instance for node in self._nodes.values()], now)
        self.heap.at(now + self._sampler.period_s, TICK, self._sample, None)

    # ---------------------------------------------------------------- requests

    def _next_arrival(self) -> None:
        row = next(self._rows, None)
        if row is None:
            self._more = False
        else:
            self.heap.at(row.arrival_s or 0.0, ARRIVAL, self._arrive, row)

    def _arrive(self, row: TraceRow) -> None:
        self._next_arrival()
        self._open_request(row)

    def _follow_up(self, row: TraceRow) -> None:
        """The next turn of a session, whose client waited for the last one."""
        self._to_follow -= 1
        self._open_request(row)

    def _open_request(self, row: TraceRow) -> None:
        request = self._request(row)
        self._lengths[request.id] = row.output_tokens
        self._open[request.id] = Life(request, row)
        self._arrived += 1
        if self._progress is not None and self._arrived % 1000 == 0:
            self._progress(self._arrived)
        settings = self.settings
        gateway_s = settings.gateway_s + settings.gateway_s_per_token * row.prompt_tokens
        if gateway_s > 0:
            self.heap.at(self.heap.now + gateway_s, ARRIVAL, self._tell, Arrived(request))
        else:
            self._tell(Arrived(request))

    def _request(self, row: TraceRow) -> Request:
        pool = self._config.pools[0]
        hashes: tuple[BlockHash, ...] = ()
        if row.hash_ids:
            from fairlead.workload.prefixes import block_names

            hashes = block_names(row, pool.block_tokens)
        most = self.settings.max_tokens
        if most:
            room = (pool.max_context or 1 << 60) - row.prompt_tokens
            most = max(min(most, room), row.output_tokens)
        return Request(
            RequestId(f"r{row.index}"),
            self.heap.now,
            row.prompt_tokens,
            most or row.output_tokens,
            self._draw.objective(row),
            pool.model,
            TenantId(row.tenant),
            block_hashes=hashes,
        )

    # ---------------------------------------------------------------- the fleet

    def _hear(self, frame: list[Event]) -> None:
        for event in frame:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        now = self.heap.now
        actions = self.fleet.handle(event, now)
        if actions:
            self._digest.add(actions, now)
        for observe in self._observers:
            observe(event, actions, now)
        for action in actions:
            self._carry_out[type(action)](action)

    def _send(self, action: Dispatch | Cancel) -> None:
        node = self._nodes[action.instance]
        self._links[action.instance].send(node.receive, action)
        if type(action) is Dispatch:
            life = self._open[action.request.id]
            life.attempts = action.attempt
            life.instance = action.instance

    def _deliver(self, action: Deliver) -> None:
        seen_s = self.heap.now + self.settings.client_s
        for row in action.rows:
            life = self._open[row.request]
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

    def _complete(self, action: Complete) -> None:
        finished = action.outcome is Outcome.FINISHED
        ending = Ending.FINISHED if finished else Ending.FAILED
        self._ended(action.request, ending, action.why.value, action.cached_tokens)

    def _reject(self, action: Reject) -> None:
        self._ended(action.request, Ending.REJECTED, action.why.value, None)

    def _ended(self, id: RequestId, ending: Ending, why: str, cached: int | None) -> None:
        life = self._open.pop(id)
        del self._lengths[id]
        request = life.request
        if self._follow is not None and (row := self._follow(life.row, self.heap.now)) is not None:
            self.heap.at(row.arrival_s or 0.0, ARRIVAL, self._follow_up, row)
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
                self.heap.now,
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
