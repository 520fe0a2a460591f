"""A replay from end to end: asks the server what it is, plays the trace, sums up."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from fairlead.client.body import Api, Asking
from fairlead.client.load import LoadSeries, poll_load, read_once
from fairlead.client.player import Pace, Player, Tally
from fairlead.client.server import Server, ask_server, headers
from fairlead.model import BATCH, ConfigError, Objective
from fairlead.workload.curves import curves
from fairlead.workload.objectives import ObjectiveDraw, ObjectiveMix
from fairlead.workload.prompts import PromptMaker, Vocabulary
from fairlead.workload.shape import ShapedTrace
from fairlead.workload.summary import RunFacts, Summary, summarize


@dataclass(frozen=True, slots=True)
class WantedObjectives:
    """What the user said about objectives; what is left open the server decides."""

    classes: Mapping[str, Objective] = field(default_factory=dict)
    default: str | None = None
    mix: Mapping[str, float] | None = None

    def against(self, server: Server) -> ObjectiveMix:
        """The user's classes, else the gateway's, else all batch work."""
        classes = self.classes or server.objectives or {BATCH.name: BATCH}
        default = self.default
        if default is None and server.default_class in classes:
            default = server.default_class
        return ObjectiveMix(classes, default or next(iter(classes)), self.mix or {})


@dataclass(frozen=True, slots=True)
class Replay:
    """What is replayed, against whom, and how."""

    trace: ShapedTrace
    url: str
    api: Api = Api.COMPLETIONS
    model: str | None = None
    api_key: str | None = None
    objectives: WantedObjectives = WantedObjectives()
    pace: Pace = Pace()
    seed: int = 0
    vocabulary: Vocabulary | None = None
    """None leaves it to what the model says of itself."""
    check_positions: bool = False
    warmup_s: float = 0.0
    label: str | None = None

    async def run(self, watch: Callable[[Player], Any] | None = None) -> Summary:
        """Plays to the end, or to the first Ctrl-C. Raises `FairleadError` before anything is
        sent where the server cannot be asked."""
        server = await ask_server(self.url, self.api_key, self.model)
        mix = self.objectives.against(server)
        if self.check_positions and not server.is_fairlead:
            raise ConfigError(
                f"{server.url} is no Fairlead gateway, so it tells no token positions; "
                "leave --check-positions out."
            )
        raise_file_limit()
        load = LoadSeries()
        async with self._session() as session:
            player = self._player(session, server, mix)
            metrics_url = f"{server.url}/metrics"
            polling = poll_load(session, metrics_url, load, player.clock)
            with _interruptible(player):
                async with _background(polling), _background(watch(player) if watch else None):
                    await player.play()
                wall_s = player.clock()
                await read_once(session, metrics_url, load, player.clock)
        return self._summary(server, player, load, wall_s)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers=headers(self.api_key),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=15, sock_read=self.pace.timeout_s
            ),
            auto_decompress=False,
            read_bufsize=1 << 18,
        )

    def _player(self, session: aiohttp.ClientSession, server: Server, mix: ObjectiveMix) -> Player:
        vocabulary = self.vocabulary or server.vocabulary
        asking = Asking(
            server=server,
            api=self.api,
            prompts=PromptMaker(self.seed, vocabulary),
            vocabulary=vocabulary,
            seed=self.seed,
            check_positions=self.check_positions,
            send_tier=bool(self.objectives.classes or server.objectives),
        )
        draw = ObjectiveDraw(mix, self.seed)
        return Player(session, asking, self.pace, self.trace.rows, draw.objective)

    def _summary(self, server: Server, player: Player, load: LoadSeries, wall_s: float) -> Summary:
        columns = player.tally.records.columns()
        facts = RunFacts(
            trace=self.trace.trace.name,
            fleet=server.fleet or server.url,
            policy=server.policy,
            seed=self.seed,
            wall_s=wall_s,
            resumed=load.counted("fairlead_resumed_total"),
            preemptions=load.counted("fairlead_preemptions_total"),
            handoffs=load.counted("fairlead_handoffs_total"),
            instances=load.instances,
        )
        itl_s = player.tally.itl.percentiles()
        summary = summarize(columns, facts, itl_s=itl_s, warmup_s=self.warmup_s)
        return summary.with_extra(
            interrupted=player.interrupted or None,
            label=self.label,
            client=self._client(server, player.tally),
            positions=_positions(player.tally) if self.check_positions else None,
            curves=curves(columns, load.samples),
        )

    def _client(self, server: Server, tally: Tally) -> dict[str, Any]:
        """How the figures came about, and what the client itself may have to answer for."""
        n = self.pace.concurrency
        return {
            "url": server.url,
            "model": server.model,
            "api": self.api.value,
            "mode": "open loop" if n is None else f"closed loop, {n} streams",
            "arrivals": self.trace.arrivals,
            "lengths": self.trace.shape.lengths,
            "skipped_rows": dict(self.trace.trace.skipped),
            "send_late_s": tally.late.percentiles().to_json(),
            "max_in_flight": tally.most_in_flight,
            "statuses": dict(sorted(tally.statuses.items())),
            "reasons": dict(tally.reasons.most_common()),
        }


def _positions(tally: Tally) -> dict[str, Any]:
    return {
        "ok": tally.positions_ok,
        "streams": tally.streams_checked,
        "repeated": tally.repeated,
        "skipped": tally.skipped,
        "unmarked_chunks": tally.unmarked,
        "faults": list(tally.position_faults),
    }


def raise_file_limit() -> None:
    """Allows this process as many connections as its owner may grant it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def _background(work: Any) -> AsyncIterator[None]:
    """Runs beside the context, and ends with it."""
    task = asyncio.ensure_future(work) if work is not None else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@contextmanager
def _interruptible(player: Player) -> Iterator[None]:
    """The first Ctrl-C stops the player; a second one has its usual effect."""
    loop = asyncio.get_running_loop()
    handled = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        player.stop()
        release()

    def release() -> None:
        for number in handled:
            loop.remove_signal_handler(number)

    try:
        for number in handled:
            loop.add_signal_handler(number, stop)
    except (RuntimeError, ValueError):  # not the main thread: whoever runs us handles signals
        yield
        return
    try:
        yield
    finally:
        release()
