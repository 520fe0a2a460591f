"""Plays a trace against a server: at the trace's own times, or so many streams at a time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import aiohttp

from fairlead.client.body import Asking
from fairlead.client.errors import connection_error, message_of_body
from fairlead.client.stream import BROKE_OFF, StreamMeter
from fairlead.model import Objective
from fairlead.workload.percentiles import Histogram
from fairlead.workload.records import Ending, RecordColumns, RequestRecord
from fairlead.workload.trace import TraceRow

MAX_REASONS = 20
"""Different reasons that are told apart; messages may hold numbers."""
BACK_OFF_S = 0.2
"""Pause of a closed-loop stream after a request that brought nothing, lest it spins."""
REJECTIONS = (429, 503)


@dataclass(frozen=True, slots=True)
class Pace:
    """When requests are sent."""

    concurrency: int | None = None
    """Streams kept going, arrival times ignored (closed loop); None plays arrival times."""
    duration_s: float | None = None
    """Nothing is sent after this; what is under way then is waited for. In a closed loop the
    trace starts over until then, with prompts of its own in every lap."""
    max_in_flight: int = 10_000
    """Requests under way at once; one that is due beyond it waits, and counts from when it was
    due."""
    timeout_s: float = 600.0
    """Longest silence of a stream before it counts as failed."""


@dataclass(slots=True)
class Tally:
    """What the client itself saw, beside the records."""

    records: RecordColumns = field(default_factory=RecordColumns)
    itl: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)
    """Seconds by which requests left after they were due."""
    statuses: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    position_faults: list[str] = field(default_factory=list)
    """The first few, in words."""
    streams_checked: int = 0
    repeated: int = 0
    skipped: int = 0
    unmarked: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    n_tokens: int = 0

    @property
    def positions_ok(self) -> bool:
        return not (self.repeated or self.skipped or self.unmarked)

    def reason(self, why: str) -> None:
        known = why in self.reasons or len(self.reasons) < MAX_REASONS
        self.reasons[why if known else "other reasons"] += 1


@dataclass(slots=True)
class _Call:
    """One request under way."""

    row: TraceRow
    lap: int
    objective: Objective
    body: bytes
    arrival_s: float
    meter: StreamMeter
    status: int | None = None

    @property
    def id(self) -> str:
        return f"{self.row.index}" if self.lap == 0 else f"{self.row.index}#{self.lap}"


class Player:
    """Sends rows, listens to every stream, and keeps one record of each request."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        asking: Asking,
        pace: Pace,
        rows: Callable[[], Iterator[TraceRow]],
        objective: Callable[[TraceRow], Objective],
    ) -> None:
        self.tally = Tally()
        self.interrupted = False
        self._session = session
        self._asking = asking
        self._url = asking.server.url + asking.api.path
        self._pace = pace
        self._rows = rows
        self._objective = objective
        self._start_s = time.perf_counter()
        self._playing: asyncio.Task[object] | None = None

    def clock(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._start_s

    async def play(self) -> None:
        """Returns when the trace is over and every stream has ended, or after `stop`."""
        self._start_s = time.perf_counter()
        self._playing = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as streams:
                if self._pace.concurrency is None:
                    await self._open_loop(streams)
                else:
                    self._closed_loop(streams, self._pace.concurrency)
        except asyncio.CancelledError:
            if not self.interrupted or self._playing is None:
                raise
            self._playing.uncancel()

    def stop(self) -> None:
        """Ends the run now: nothing more is sent, and streams under way count as cancelled."""
        if not self.interrupted and self._playing is not None:
            self.interrupted = True
            self._playing.cancel()

    # ------------------------------------------------------------ open loop

    async def _open_loop(self, streams: asyncio.TaskGroup) -> None:
        room = asyncio.Semaphore(self._pace.max_in_flight)
        for row in self._rows():
            due_s = row.arrival_s or 0.0
            if self._pace.duration_s is not None and due_s > self._pace.duration_s:
                return
            call = self._prepare(row, 0, due_s)
            # By the clock of the whole run, so that no error adds up. A turn is yielded even when
            # late, so that streams are read.
            await asyncio.sleep(max(due_s - self.clock(), 0.0))
            await room.acquire()
            self.tally.late.add(max(self.clock() - due_s, 0.0))
            streams.create_task(self._ask(call)).add_done_callback(lambda _: room.release())

    # ------------------------------------------------------------ closed loop

    def _closed_loop(self, streams: asyncio.TaskGroup, concurrency: int) -> None:
        rows = self._laps()
        for _ in range(concurrency):
            streams.create_task(self._stream_after_stream(rows))

    async def _stream_after_stream(self, rows: Iterator[tuple[int, TraceRow]]) -> None:
        for lap, row in rows:
            call = self._prepare(row, lap, 0.0)
            call.arrival_s = self.clock()
            ending = await self._ask(call)
            if ending is not Ending.FINISHED and not self._over():
                await asyncio.sleep(BACK_OFF_S)

    def _laps(self) -> Iterator[tuple[int, TraceRow]]:
        lap = 0
        while not self._over():
            for row in self._rows():
                if self._over():
                    return
                yield lap, row
            lap += 1
            if self._pace.duration_s is None:
                return

    def _over(self) -> bool:
        return self._pace.duration_s is not None and self.clock() >= self._pace.duration_s

    # ------------------------------------------------------------ one request

    def _prepare(self, row: TraceRow, lap: int, arrival_s: float) -> _Call:
        objective = self._objective(row)
        body = self._asking.body(row, objective, lap)
        meter = StreamMeter(self.tally.itl.add, self._asking.check_positions)
        return _Call(row, lap, objective, body, arrival_s, meter)

    async def _ask(self, call: _Call) -> Ending:
        tally = self.tally
        tally.in_flight += 1
        tally.most_in_flight = max(tally.most_in_flight, tally.in_flight)
        try:
            ending, why = await self._exchange(call)
        except asyncio.CancelledError:
            self._record(call, Ending.CANCELLED, "the replay was stopped")
            raise
        finally:
            tally.in_flight -= 1
        self._record(call, ending, why)
        return ending

    async def _exchange(self, call: _Call) -> tuple[Ending, str]:
        """Sends and listens. A connection that the server closed while it was idle is found out
        only by using it, so one that dies before any answer is tried once more."""
        for attempt in (1, 2):
            try:
                return await self._send(call)
            except aiohttp.ServerDisconnectedError as error:
                if attempt == 2 or call.status is not None:
                    return Ending.FAILED, connection_error(error)
            except TimeoutError:
                return Ending.FAILED, f"no token for {self._pace.timeout_s:g} s"
            except aiohttp.ClientPayloadError:
                return Ending.FAILED, BROKE_OFF
            except (aiohttp.ClientError, OSError) as error:
                return Ending.FAILED, connection_error(error)
        raise AssertionError("the second attempt always returns")

    async def _send(self, call: _Call) -> tuple[Ending, str]:
        meter = call.meter
        async with self._session.post(self._url, data=call.body, headers=_JSON) as reply:
            call.status = reply.status
            if reply.status != 200:
                ending = Ending.REJECTED if reply.status in REJECTIONS else Ending.FAILED
                return ending, f"{reply.status}: {message_of_body(await reply.content.read(65536))}"
            call.body = b""
            async for data in reply.content.iter_any():
                meter.feed(data, self.clock())
        meter.close(call.row.output_tokens)
        return (Ending.FAILED, meter.error) if meter.error else (Ending.FINISHED, "")

    def _record(self, call: _Call, ending: Ending, why: str) -> None:
        meter, tally = call.meter, self.tally
        tally.statuses["none" if call.status is None else str(call.status)] += 1
        tally.endings[ending.value] += 1
        tally.n_tokens += meter.output_tokens
        if why:
            tally.reason(why)
        self._check_positions(call)
        tally.records.append(
            RequestRecord(
                id=call.id,
                arrival_s=call.arrival_s,
                ending=ending,
                objective=call.objective,
                tenant=call.row.tenant,
                program=call.row.program,
                first_token_s=meter.first_token_s,
                last_token_s=meter.last_token_s,
                ended_s=self.clock(),
                prompt_tokens=meter.prompt_tokens or call.row.prompt_tokens,
                output_tokens=meter.output_tokens,
                cached_tokens=meter.cached_tokens,
                why=why,
                resumed=meter.resumed,
                instance=meter.instance,
            )
        )

    def _check_positions(self, call: _Call) -> None:
        check = call.meter.positions
        if check is None:
            return
        tally = self.tally
        tally.streams_checked += 1
        tally.repeated += check.repeated
        tally.skipped += check.skipped
        tally.unmarked += check.unmarked
        if not check.ok and len(tally.position_faults) < MAX_REASONS:
            tally.position_faults.append(f"request {call.id}: {check.first_fault}")


_JSON = {"Content-Type": "application/json"}
