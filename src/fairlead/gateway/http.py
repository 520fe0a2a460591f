"""The HTTP API: which address does what, who may, and what a mistake is answered with."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST

from fairlead.gateway import failures, openapi
from fairlead.gateway.asked import Asked
from fairlead.gateway.config import GatewayConfig
from fairlead.gateway.cors import Cors
from fairlead.gateway.direct import EXTENSION, DirectExchange
from fairlead.gateway.driver import Driver
from fairlead.gateway.embeddings import EmbeddingCall, parse_embedding
from fairlead.gateway.exchange import AsgiExchange, ClientGone, Exchange, Receive, Scope, Send
from fairlead.gateway.intake import Intake
from fairlead.gateway.schemas import Hints, parse_hint_headers
from fairlead.gateway.served import ServedModel
from fairlead.gateway.streams import Call
from fairlead.gateway.tenants.caller import Caller
from fairlead.gateway.tenants.door import Door, Meter
from fairlead.gateway.translations import messages, responses
from fairlead.gateway.translations.message_call import MessageCall
from fairlead.gateway.translations.response_call import ResponseCall
from fairlead.gateway.window import PREFIX, WindowPages
from fairlead.model import FairleadError, Objective, Request, RequestError
from fairlead.store.tenant import Role

Handler = Callable[[Exchange], Awaitable[None]]
CallKind = Callable[[Asked, Exchange, Driver, Meter | None], Call]
_JSON = (b"content-type", b"application/json")
_HINT_PREFIX = b"x-fairlead-"
_MODELS = "/v1/models/"
_BATCHES = ("/v1/files", "/v1/batches")
MAX_USAGE_DAYS = 3660
OPERATORS = (PREFIX, "/metrics")
"""What is for operators: everything below."""
PROBES = ("/health", "/ready")
"""What whoever watches a process asks, on every port."""
WINDOW_METHODS = ("GET", "HEAD", "POST")
_log = logging.getLogger("fairlead.gateway")


class Pages(Protocol):
    """What is answered below some address."""

    async def show(self, exchange: Exchange, caller: Caller) -> None:
        """Raises `RequestError`."""
        ...


class HttpApp:
    """An ASGI application. Its handlers end with a reply, or with a call in the fleet's hands."""

    def __init__(
        self,
        config: GatewayConfig,
        driver: Driver,
        intake: Intake,
        models: Mapping[str, ServedModel],
        objectives: Mapping[str, Objective],
        missing_pools: Callable[[], list[str]],
        metrics: Callable[[], bytes],
        about: Mapping[str, Any],
        door: Door,
        window: WindowPages | None = None,
    ) -> None:
        """`window` is the dashboard, where there is one."""
        self.batches: Pages | None = None
        """Files and batches, where there are any."""
        self.draining = False
        self.linked: Callable[[Sequence[Request], str, str], None] | None = None
        """Hears of requests whose client has a trace of its own, before they arrive: with its
        `traceparent` and `tracestate`."""
        self._config = config
        self._driver = driver
        self._intake = intake
        self._models = models
        self._objectives = objectives
        self._missing_pools = missing_pools
        self._metrics = metrics
        self._about = about
        self._door = door
        self._window = window
        self._cors = Cors(config.cors_origins)
        self._calls: set[Call] = set()
        self.routes: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._completion,
            ("POST", "/v1/messages"): self._message,
            ("POST", "/v1/messages/count_tokens"): self._count_tokens,
            ("POST", "/v1/responses"): self._response,
            ("POST", "/v1/embeddings"): self._embedding,
            ("GET", "/v1/models"): self._list_models,
            ("GET", "/v1/usage"): self._show_usage,
            ("GET", "/health"): self._health,
            ("GET", "/ready"): self._ready,
            ("GET", "/metrics"): self._show_metrics,
            ("GET", "/openapi.json"): self._show_document,
        }

    @property
    def calls(self) -> set[Call]:
        """Those under way."""
        return self._calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As clients reach it: with everything that no other port has."""
        hidden = OPERATORS if self._config.admin_listen else ()
        await self._answer_one(scope, receive, send, lambda path: not path.startswith(hidden))

    async def for_operators(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same as operators reach it, where they have a port of their own."""
        shown = (*OPERATORS, *PROBES)
        await self._answer_one(scope, receive, send, lambda path: path.startswith(shown))

    async def _answer_one(
        self, scope: Scope, receive: Receive, send: Send, shown: Callable[[str], bool]
    ) -> None:
        if scope["type"] != "http":
            return
        exchange = self._exchange(scope, receive, send)
        if exchange.path.startswith(messages.PATH):
            exchange.error_body = messages.error_body
        try:
            self._cors.allow(exchange)
            if not shown(exchange.path):
                raise _nothing_at(exchange.path)
            await self._handler(exchange)(exchange)
        except ClientGone:
            return
        except RequestError as error:
            _answer(exchange, error)
        except FairleadError as error:
            _answer(exchange, RequestError(str(error), status=error.status))
        except Exception:
            _log.exception("gateway.bug path=%r", exchange.path)
            _answer(exchange, _BUG)
        await exchange.finished()

    def _exchange(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        direct: DirectExchange | None = scope.get("extensions", {}).pop(EXTENSION, None)
        if direct is None:
            return AsgiExchange(scope, receive, send, self._config.max_stream_buffer_bytes)
        direct.begin()
        return direct

    def _handler(self, exchange: Exchange) -> Handler:
        method, path = exchange.method, exchange.path
        handler = self.routes.get(("GET" if method == "HEAD" else method, path))
        if handler is not None:
            return handler
        if path.startswith(_MODELS) and method in ("GET", "HEAD"):
            return self._show_model
        if path.startswith(PREFIX) and self._window is not None and method in WINDOW_METHODS:
            return self._show_window
        if method == "OPTIONS" and path.startswith((*_BATCHES, _MODELS)):
            return self._cors.preflight
        if path.startswith(_BATCHES):
            return self._show_batches
        allowed = [m for m, p in self.routes if p == path]
        if not allowed:
            raise _nothing_at(path)
        if method == "OPTIONS":
            return self._cors.preflight
        exchange.extra_headers.append((b"allow", ", ".join(allowed).encode()))
        raise RequestError(
            f"{path} does not take {method}; use {' or '.join(allowed)}",
            status=405,
            code="method_not_allowed",
        )

    async def _chat(self, exchange: Exchange) -> None:
        caller, data = await self._let_in(exchange)
        asked = await self._intake.chat(data, caller, _hints(exchange))
        await self._serve(asked, exchange, caller)

    async def _completion(self, exchange: Exchange) -> None:
        caller, data = await self._let_in(exchange)
        asked = await self._intake.completion(data, caller, _hints(exchange))
        await self._serve(asked, exchange, caller)

    async def _let_in(self, exchange: Exchange) -> tuple[Caller, bytes]:
        """Who it is, and the body; nobody who may not come in has theirs read."""
        caller = await self._caller(exchange)
        self._door.check(caller)
        return caller, await exchange.body(self._config.max_body_bytes, self._config.body_timeout_s)

    async def _message(self, exchange: Exchange) -> None:
        caller, data = await self._let_in(exchange)
        body = messages.parse_message(data)
        asked = await self._intake.converse(body, caller, _hints(exchange))
        await self._serve(asked, exchange, caller, MessageCall)

    async def _count_tokens(self, exchange: Exchange) -> None:
        caller, data = await self._let_in(exchange)
        n = await self._intake.count(messages.parse_count(data), caller)
        _reply_json(exchange, {"input_tokens": n})

    async def _response(self, exchange: Exchange) -> None:
        caller, data = await self._let_in(exchange)
        body = responses.parse_response(data)
        with responses.own_names():
            asked = await self._intake.converse(body.chat(), caller, _hints(exchange))
        await self._serve(asked, exchange, caller, partial(ResponseCall, body))

    async def _embedding(self, exchange: Exchange) -> None:
        caller, data = await self._let_in(exchange)
        body = parse_embedding(data)
        asked = await self._intake.embedding(body.completion(), caller, _hints(exchange))
        await self._serve(asked, exchange, caller, partial(EmbeddingCall, body))

    async def _serve(
        self, asked: Asked, exchange: Exchange, caller: Caller, call_kind: CallKind = Call
    ) -> None:
        if exchange.gone:
            raise ClientGone
        call = call_kind(asked, exchange, self._driver, self._door.open(caller, asked))
        self._calls.add(call)
        self._link(call)
        try:
            call.begin()
            await call.exchange.finished()
        finally:
            self._calls.discard(call)
            call.let_go()

    def _link(self, call: Call) -> None:
        if self.linked is None:
            return
        parent = call.exchange.header(b"traceparent")
        if parent is not None:
            state = call.exchange.header(b"tracestate") or b""
            self.linked(call.asked.requests, parent.decode("latin-1"), state.decode("latin-1"))

    async def _list_models(self, exchange: Exchange) -> None:
        caller = await self._caller(exchange)
        models = [self._describe(m) for m in self._models.values() if caller.may_use(m.name)]
        _reply_json(exchange, {"object": "list", "data": models})

    async def _show_usage(self, exchange: Exchange) -> None:
        caller = await self._caller(exchange)
        given = parse_qs(exchange.query)
        days = given.get("days", ["30"])[0]
        if not days.isdecimal() or not 1 <= int(days[:6]) <= MAX_USAGE_DAYS:
            raise RequestError(
                f"days must be a number from 1 to {MAX_USAGE_DAYS}, got {days!r}", param="days"
            )
        tenant = given.get("tenant", [None])[0]
        rows = await self._door.usage(caller, tenant, int(days))
        _reply_json(exchange, {"object": "list", "data": rows})

    async def _show_model(self, exchange: Exchange) -> None:
        caller = await self._caller(exchange)
        name = unquote(exchange.path[len(_MODELS) :])
        model = self._models.get(name)
        if model is None:
            raise RequestError(
                f"the model {name!r} does not exist; served here: {', '.join(self._models)}",
                status=404,
                code="model_not_found",
                param="model",
            )
        caller.check_model(name)
        _reply_json(exchange, self._describe(model))

    def _describe(self, model: ServedModel) -> dict[str, Any]:
        times = ("ttft_s", "tpot_s", "deadline_s")
        return {
            "id": model.name,
            "object": "model",
            "created": model.created,
            "owned_by": "fairlead",
            "max_model_len": model.max_context,
            "fairlead": {
                "vocab": model.text_ids,
                "max_context": model.max_context,
                "objectives": {
                    name: {t: getattr(o, t) for t in times if getattr(o, t) is not None}
                    for name, o in self._objectives.items()
                },
                **self._about,
            },
        }

    async def _health(self, exchange: Exchange) -> None:
        _reply_json(exchange, {"status": "ok"})

    async def _ready(self, exchange: Exchange) -> None:
        missing = self._missing_pools()
        ready = not self.draining and not missing
        state = {"ready": ready, "draining": self.draining, "pools_without_instance": missing}
        _reply_json(exchange, state, 200 if ready else 503)

    async def _show_metrics(self, exchange: Exchange) -> None:
        kind = (b"content-type", CONTENT_TYPE_LATEST.encode())
        exchange.reply(200, [kind], self._metrics())

    async def _show_batches(self, exchange: Exchange) -> None:
        caller = await self._caller(exchange)
        if self.batches is None:
            raise RequestError(
                "files and batches are not served here; whoever runs this service can switch them "
                "on with a [batches] table in the fleet file",
                status=501,
                code="batches_off",
                kind="server_error",
            )
        self._door.check(caller)
        await self.batches.show(exchange, caller)

    async def _show_document(self, exchange: Exchange) -> None:
        exchange.reply(200, [_JSON], openapi_text(not self._config.admin_listen))

    async def _show_window(self, exchange: Exchange) -> None:
        assert self._window is not None
        if self._window.is_asset(exchange.path) and exchange.method != "POST":
            self._window.asset(exchange)
            return
        self._let_watch(await self._caller(exchange))
        await self._window.show(exchange)

    def _let_watch(self, caller: Caller) -> None:
        """Raises where this caller may not see what others ask for."""
        chosen = self._config.dashboard_tenants
        alone = caller.rules is None and len(set(self._config.api_keys.values())) < 2
        if caller.role is Role.ADMIN or caller.name in chosen or (not chosen and alone):
            return
        raise RequestError(
            "this key does not open the dashboard, which shows the requests of all tenants; "
            "[gateway] dashboard_tenants names those whose keys do",
            status=403,
            code="not_allowed",
        )

    async def _caller(self, exchange: Exchange) -> Caller:
        """Whose key the call bears."""
        scheme, _, key = (exchange.header(b"authorization") or b"").partition(b" ")
        if scheme.lower() == b"bearer":
            return await self._door.caller(key.strip())
        return await self._door.caller(exchange.header(b"x-api-key"))


_BUG = RequestError(
    "this is a bug in the gateway; its log tells more", status=500, kind="server_error"
)


@cache
def openapi_text(for_operators: bool) -> bytes:
    return msgspec.json.encode(openapi.document(for_operators))


def _nothing_at(path: str) -> RequestError:
    return RequestError(f"there is nothing at {path}", status=404, code="unknown_url")


def _hints(exchange: Exchange) -> Hints | None:
    found = [pair for pair in exchange.raw_headers if pair[0].startswith(_HINT_PREFIX)]
    if not found:
        return None
    skip = len(_HINT_PREFIX)
    return parse_hint_headers(
        {name[skip:].decode("latin-1"): value.decode("latin-1") for name, value in found}
    )


def _reply_json(exchange: Exchange, value: object, status: int = 200) -> None:
    exchange.reply(status, [_JSON], msgspec.json.encode(value))


def _answer(exchange: Exchange, error: RequestError) -> None:
    if not exchange.started:
        exchange.reply(error.status, failures.headers(error), exchange.error_body(error))
    elif not exchange.gone:
        exchange.end()
