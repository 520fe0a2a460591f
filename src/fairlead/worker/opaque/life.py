"""The time during which a server is well: its worker is an instance of the fleet, and what the
fleet sends is asked of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import fairlead
from fairlead.latency.coefficients import from_coefficients
from fairlead.model import InstanceSpec, RefuseWhy, Report, Request, RequestId
from fairlead.worker.clock import GatewayClock
from fairlead.worker.link import Link
from fairlead.worker.opaque.asking import Asking
from fairlead.worker.opaque.circuit import Circuit
from fairlead.worker.opaque.dialect import Prompts, salt_text
from fairlead.worker.opaque.introduce import Facts
from fairlead.worker.opaque.kv_events import KvEvents
from fairlead.worker.opaque.load import Load
from fairlead.worker.opaque.setting import Setting
from fairlead.worker.opaque.subscribe import Subscriber
from fairlead.worker.opaque.watch import Watch
from fairlead.worker.reports import Reports
from fairlead.worker.wire import (
    VERSION,
    Abort,
    Drain,
    Hello,
    Message,
    Move,
    Moved,
    Ping,
    Rejected,
    Submit,
    ToWorker,
    Welcome,
)

BUSY_S = 1.0
"""How long a server that is busy is left alone where it does not say itself."""


class Life:
    """See the module. A `link.Receiver`, and the `Owner` of what is asked."""

    def __init__(
        self, setting: Setting, spec: InstanceSpec, facts: Facts, circuit: Circuit
    ) -> None:
        self._set = setting
        self._spec = spec
        self._dialect = facts.dialect
        self._circuit = circuit
        self._clock = GatewayClock()
        self._link = Link(setting.gateway, self, setting.tell, setting.tls)
        latency = from_coefficients(spec.latency)
        self._load = Load(spec, latency, tells_cache=setting.kv_events is not None)
        self._asking = Asking(setting, facts.dialect, self._load, self)
        self._watch = Watch(setting.api, facts, self._asking, self._load, circuit)
        self._salts: dict[str, bytes] = {}
        """By what the server got for them."""
        self._over = asyncio.Event()
        self._down = ""
        self._dismissed: str | None = None
        self._draining = False
        self._busy_until_s = float("-inf")
        self._reports = Reports(self._link, self._clock, self._picture)

    @property
    def down(self) -> str:
        """Why the server is down; empty while it is not."""
        return self._down

    async def run(self) -> str | None:
        """Returns when the server is `down`, when all is drained, or, with the reason, when the
        gateway says goodbye. Raises `FairleadError` where the gateway would not have us."""
        try:
            async with asyncio.TaskGroup() as tasks:
                jobs = [tasks.create_task(job) for job in self._jobs()]
                await self._over.wait()
                self._asking.flush()
                why = f"its server is down: {self._down}" if self._down else "drained"
                await self._link.leave(why)
                for job in jobs:
                    job.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._asking.drop_all()
            self._reports.stop()
        return self._dismissed

    def _jobs(self) -> list[Coroutine[Any, Any, None]]:
        jobs = [self._keep_linked(), self._keep_watch()]
        if self._load.cache is not None and self._set.kv_events is not None:
            events = KvEvents(self._load.cache, self._spec.block_tokens, self._salts.get)
            ends = self._set.kv_events, self._set.kv_replay
            jobs.append(Subscriber(*ends, events, self._set.tell).run())
        return jobs

    async def _keep_linked(self) -> None:
        self._dismissed = await self._link.run()
        self._over.set()

    async def _keep_watch(self) -> None:
        self.fell(await self._watch.run())

    def drain(self) -> None:
        """From now on nothing new is taken; `run` returns when what is inside has ended."""
        self._draining = True
        self._reports.leave()
        self._see_whether_over()

    def _see_whether_over(self) -> None:
        # Without a gateway nobody waits for what is inside: the fleet has sent it elsewhere.
        if self._draining and not (self._link.connected and self._asking.answers):
            self._over.set()

    # ---------------------------------------------------------------- what the gateway says

    def hello(self) -> Hello:
        return Hello(VERSION, self._set.token, self._spec, fairlead.__version__)

    def welcomed(self, welcome: Welcome) -> None:
        """What is still inside from before belongs to nobody: the fleet has sent it elsewhere."""
        self._clock.restart(welcome.gateway_time_s)
        self._set.tell(f"joined {self._link.address} as {welcome.instance}")
        self._asking.drop_all()
        self._reports.begin(welcome.heartbeat_s)

    def received(self, message: ToWorker) -> None:
        match message:
            case Submit():
                self._submit(message)
            case Abort():
                self._abort(message.request, message.attempt)
            case Move():
                # A server gives its KV to nobody of ours.
                self._link.send(Moved(message.request, message.attempt, False))
            case Drain():
                self.drain()
            case Ping(gateway_time_s, whole_cache):
                self._clock.hear(gateway_time_s)
                self._reports.now(whole_cache)
            case _:
                self._set.tell(f"the gateway said {type(message).__name__} out of turn; ignored")

    def _submit(self, order: Submit) -> None:
        request, attempt = order.request, order.attempt
        present = self._asking.get(request.id)
        if present is not None:
            if present.attempt >= attempt:
                return
            self._asking.drop(present)
        why = self._refusal(order)
        if why is not None:
            said = self._objection(request) or _WORDS.get(why, "")
            self._link.send(Rejected(request.id, attempt, why, said))
            return
        if request.cache_salt:
            self._salts[salt_text(request.cache_salt)] = request.cache_salt
        self._asking.begin(request, attempt, order.produced)
        self.changed()

    def _refusal(self, order: Submit) -> RefuseWhy | None:
        request, spec = order.request, self._spec
        if self._draining:
            return RefuseWhy.DRAINING
        if order.produced and not self._dialect.goes_on:
            return RefuseWhy.CANNOT_GO_ON
        if self._objection(request):
            return RefuseWhy.UNSUPPORTED
        sound = request.prompt_tokens > 0 and len(order.produced) < request.max_tokens
        if not sound or request.prompt_tokens + request.max_tokens - 1 >= spec.max_context:
            return RefuseWhy.TOO_LONG
        most = spec.max_sequences + spec.max_waiting
        crowded = not order.produced and len(self._asking.answers) >= most
        if crowded or self._clock.now_s() < self._busy_until_s:
            return RefuseWhy.QUEUE_FULL
        return None

    def _objection(self, request: Request) -> str:
        """Why this server cannot do what is asked for; empty where it can, as far as we know."""
        if request.embeds:
            return ""  # Whether it has the address shows when it is asked.
        if self._dialect.embeds_only:
            return "it serves embeddings only; ask at /v1/embeddings"
        if self._dialect.prompts is Prompts.CHAT:
            # What its answer is held to, a chat says in its own words.
            return "" if request.chat else "it takes chats only; ask at /v1/chat/completions"
        if request.chat_only:
            return "the model's chat template has no tools, and it takes no chats"
        return _NOT_PASSED_ON if request.sampling.constrained else ""

    def _abort(self, request: RequestId, attempt: int) -> None:
        answer = self._asking.get(request)
        if answer is not None and answer.attempt == attempt:
            self._asking.drop(answer)
            self.changed()

    # ---------------------------------------------------------------- what the server does

    def send(self, message: Message) -> None:
        self._link.send(message)

    def answered(self) -> None:
        self._circuit.succeeded()

    def busy(self, seconds: float | None) -> None:
        self._busy_until_s = self._clock.now_s() + (BUSY_S if seconds is None else seconds)

    def doubt(self) -> None:
        self._watch.doubt()

    def fell(self, why: str) -> None:
        self._down = self._down or why
        self._over.set()

    # ---------------------------------------------------------------- what the gateway is told

    def changed(self) -> None:
        """Of the link, or of what is inside: the gateway had better know before the next beat."""
        if not self._link.connected:
            self._asking.drop_all()
        self._see_whether_over()
        self._reports.soon()

    def _picture(self, now: float, whole_cache: bool) -> Report:
        self._asking.flush()  # Tokens told after a report that counts them would be lost.
        return self._load.report(self._asking.answers, now, whole_cache)


_NOT_PASSED_ON = (
    "neither response_format, nor a tool_choice that demands a call, nor strict tools are passed on"
    " to it"
)
_WORDS = {
    RefuseWhy.CANNOT_GO_ON: "it takes whole chats only, and this answer has begun elsewhere",
}
