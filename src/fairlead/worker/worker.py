"""The worker: hosts one instance, runs what it plans, and tells the gateway what came of it.

One thread thinks: messages are obeyed, a step is planned, run, committed and told, one after the
other. While a step runs the event loop is free, so submits enter at once and everything else is
obeyed within a step.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

import fairlead
from fairlead.instance.instance import Instance
from fairlead.model import (
    RefuseWhy,
    Report,
    Request,
    RequestId,
    Step,
    StepResult,
)
from fairlead.worker.clock import GatewayClock
from fairlead.worker.executor import Executor, Output
from fairlead.worker.handoff import Sender
from fairlead.worker.link import Address, Link
from fairlead.worker.peer_tls import PeerTls
from fairlead.worker.receiver import Receiver
from fairlead.worker.reports import Reports
from fairlead.worker.step_log import StepLog
from fairlead.worker.streams import Streams
from fairlead.worker.wire import (
    VERSION,
    Abort,
    Drain,
    Frame,
    Hello,
    Move,
    Moved,
    Ping,
    Rejected,
    Submit,
    ToWorker,
    Welcome,
)

T = TypeVar("T")


class Worker:
    """See the module. A `link.Receiver`."""

    def __init__(
        self,
        instance: Instance,
        executor: Executor,
        streams: Streams,
        *,
        gateway: Address,
        token: str,
        n_vocabulary: int,
        clock: GatewayClock | None = None,
        tell: Callable[[str], None] = lambda line: None,
        step_log: StepLog | None = None,
        tls: ssl.SSLContext | None = None,
        peer_tls: PeerTls | None = None,
    ) -> None:
        self.peer_tls = peer_tls
        self._step_log = step_log
        self._instance = instance
        self._executor = executor
        self._streams = streams
        self._token = token
        self._n_vocabulary = n_vocabulary
        self._clock = clock or GatewayClock()
        self._tell = tell
        self._gateway = gateway
        self._link = Link(gateway, self, tell, tls)
        self._peers = Receiver(self)
        self._address = ""
        """Where other workers bring sequences to."""
        self._moves: set[asyncio.Task[None]] = set()
        self._between: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        """Calls that no step may be under way for."""
        self._later: deque[Submit | Abort] = deque()
        """What the running step must not see; obeyed in order when it is committed."""
        self._stepping = False
        self._draining = False
        self._dismissed: str | None = None
        """Why the gateway sent us away; None while it has not."""
        self._wake = asyncio.Event()
        self._reports = Reports(self._link, self._clock, self._picture)

    async def run(self) -> str | None:
        """Serves until drained, and returns None, or until the gateway says goodbye, and returns
        its reason. Raises `FairleadError` where the gateway would not have us."""
        self._address = await self._peers.start(self._gateway)
        try:
            async with asyncio.TaskGroup() as tasks:
                linked = tasks.create_task(self._keep_linked())
                await self._serve()
                await self._link.leave("drained")
                linked.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._peers.stop()
            for move in self._moves:
                move.cancel()
            self._executor.close()
            if self._step_log is not None:
                self._step_log.close()
            self._reports.stop()
        return self._dismissed

    def drain(self) -> None:
        """From now on nothing new is taken; `run` returns when what is inside has ended, or moved:
        the gateway is told, which sends what it can elsewhere."""
        self._draining = True
        self._reports.leave()
        self._wake.set()

    # ---------------------------------------------------------------- steps

    async def _serve(self) -> None:
        while True:
            self._obey_later()
            self._call_between()
            if self._is_over():
                return
            step = self._instance.plan(self._clock.now_s()) if self._link.ready else None
            if step is not None:
                await self._run_step(step)
            else:
                self._executor.rest()
                await self._wake.wait()
                self._wake.clear()

    def _is_over(self) -> bool:
        if self._dismissed is not None:
            return True
        # Without a gateway nobody waits for what is inside: the fleet has sent it elsewhere. What
        # has just moved is gone only once the gateway was told.
        inside = self._instance.sequences or self._moves
        return self._draining and not (self._link.connected and inside)

    async def _run_step(self, step: Step) -> None:
        """One iteration, from the rows to the frame."""
        epoch = self._link.epoch
        predicted_s = step.first_s
        inside = self._instance.sequences
        sequences = {row.request: inside[row.request] for row in step.rows}
        self._stepping = True
        try:
            output = await self._executor.run(step.rows, sequences, predicted_s)
        finally:
            self._stepping = False
        frame = self._commit(step, output)
        if epoch == self._link.epoch and (frame.rows or frame.ended or frame.preempted):
            self._link.send(frame)

    def _commit(self, step: Step, output: Output) -> Frame:
        stopped = self._streams.read(output)
        tokens = {request_id: (token,) for request_id, token in output.tokens.items()}
        result = StepResult(tokens, 1, stopped)
        busy_s = self._instance.busy_s
        events = self._instance.commit(step, result, self._clock.now_s())
        if self._step_log is not None:
            self._step_log.add(step.shape, self._instance.busy_s - busy_s)
        frame = self._streams.frame(events)
        for end in frame.ended:
            self._executor.forget(end.request)
        if frame.ended or frame.preempted:
            self._reports.soon()
        return frame

    # ---------------------------------------------------------------- what the gateway says

    def hello(self) -> Hello:
        held = [(s.id, s.attempt) for s in self._instance.sequences.values()]
        address = self._address if self._executor.moves_kv else ""
        mine = "" if self.peer_tls is None else self.peer_tls.fingerprint
        spec = dataclasses.replace(self._instance.spec, address=address, certificate=mine)
        return Hello(VERSION, self._token, spec, fairlead.__version__, held)

    def welcomed(self, welcome: Welcome) -> None:
        """What is still inside from before belongs to nobody: the fleet has sent it elsewhere."""
        self._clock.restart(welcome.gateway_time_s)
        self._tell(f"joined {self._link.address} as {welcome.instance}")
        self._later.clear()
        for request_id, attempt in list(self._instance.attempts.items()):
            self._obey(Abort(request_id, attempt))
        self._reports.begin(welcome.heartbeat_s)

    def received(self, message: ToWorker) -> None:
        match message:
            case Submit() | Abort():
                self._obey(message)
            case Move():
                self._start_move(message)
            case Drain():
                self.drain()
            case Ping(gateway_time_s, whole_cache):
                self._clock.hear(gateway_time_s)
                self._reports.now(whole_cache)
            case _:
                self._tell(f"the gateway said {type(message).__name__} out of turn; ignored")
        self._wake.set()

    def changed(self) -> None:
        self._wake.set()

    def _obey(self, order: Submit | Abort) -> None:
        """At once, unless the sequence may be part of the step that runs."""
        request_id = order.request.id if isinstance(order, Submit) else order.request
        if self._stepping and request_id in self._instance.sequences:
            self._later.append(order)
        elif isinstance(order, Submit):
            self._submit(order)
        else:
            self._abort(order.request, order.attempt)

    def _obey_later(self) -> None:
        while self._later:
            self._obey(self._later.popleft())

    def _submit(self, order: Submit) -> None:
        request, attempt = order.request, order.attempt
        present = self._instance.sequences.get(request.id)
        if present is not None:
            if present.attempt >= attempt:
                return
            self._abort(request.id, present.attempt)
        said = ""
        why = self._refusal(order)
        if order.request.chat_only:
            why, said = RefuseWhy.UNSUPPORTED, "the model's chat template has no tools"
        elif order.request.embeds and not self._executor.embeds:
            why, said = RefuseWhy.UNSUPPORTED, "this kind of engine has no vectors"
        elif why is None and (said := self._executor.objection(request.sampling)):
            why = RefuseWhy.UNSUPPORTED
        why = why or self._instance.submit(
            msgspec.structs.replace(request, arrival_s=self._clock.ours(request.arrival_s)),
            self._clock.now_s(),
            attempt=attempt,
            produced=order.produced,
        )
        if why is None:
            self._streams.open(request, order.produced)
            self._reports.soon()
        else:
            self._link.send(Rejected(request.id, attempt, why, said))

    def _refusal(self, order: Submit) -> RefuseWhy | None:
        if self._draining:
            return RefuseWhy.DRAINING
        sound = self._is_sound(order.request, order.produced)
        return None if sound else RefuseWhy.TOO_LONG

    def _is_sound(self, request: Request, produced: list[int]) -> bool:
        """False for what no gateway of ours sends, and what an engine would choke on."""
        return (
            0 < request.prompt_tokens == len(request.token_ids)
            and request.max_tokens > len(produced)
            and all(0 <= token < self._n_vocabulary for token in request.token_ids)
            and all(0 <= token < self._n_vocabulary for token in produced)
        )

    def _abort(self, request_id: RequestId, attempt: int) -> None:
        if self._instance.abort(request_id, self._clock.now_s(), attempt):
            self._streams.close(request_id)
            self._executor.forget(request_id)
            self._reports.soon()

    # ---------------------------------------------------------------- hand-offs

    @property
    def instance(self) -> Instance:
        return self._instance

    @property
    def executor(self) -> Executor:
        return self._executor

    @property
    def clock(self) -> GatewayClock:
        return self._clock

    @property
    def token(self) -> str:
        return self._token

    @property
    def takes_in(self) -> bool:
        return self._link.connected and not self._draining

    async def between_steps(self, call: Callable[[], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._between.append((call, future))
        self._wake.set()
        return await future

    def _call_between(self) -> None:
        while self._between:
            call, future = self._between.popleft()
            result = call()
            if not future.done():
                future.set_result(result)

    def came(self, request: Request, produced: list[int]) -> None:
        self._streams.open(request, produced)
        self._reports.soon()

    def left(self, request: RequestId) -> None:
        self._streams.close(request)
        self._executor.forget(request)
        self._reports.soon()

    def _start_move(self, message: Move) -> None:
        task = asyncio.get_running_loop().create_task(self._move(message))
        self._moves.add(task)
        task.add_done_callback(self._moved)

    def _moved(self, task: asyncio.Task[None]) -> None:
        self._moves.discard(task)
        self._wake.set()

    async def _move(self, message: Move) -> None:
        epoch = self._link.epoch
        done = await Sender(self, message).run()
        if epoch == self._link.epoch:
            self._link.send(Moved(message.request, message.attempt, done))

    # ---------------------------------------------------------------- what the gateway is told

    async def _keep_linked(self) -> None:
        self._dismissed = await self._link.run()
        self._wake.set()

    def _picture(self, now: float, whole_cache: bool) -> Report:
        return self._instance.report(now, whole_cache=whole_cache)
