"""Servers behind the gateway die, stumble and come back; clients see one stream, or are told why
not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import httpx
import pytest

from fairlead.fleet import Fleet, Limits
from fairlead.gateway import Gateway, GatewayConfig, ServedModel
from fairlead.observe.invariants import Checker
from fairlead.policies.registry import build
from fairlead.text import NANO, Tokenizer
from fairlead.worker.link import Address
from tests.gateway.conftest import OBJECTIVES, TOKEN
from tests.patience import PATIENCE_S
from tests.worker.fakes import FakeGateway, running
from tests.worker.opaque.fake_server import FakeServer, continuation, serving
from tests.worker.opaque.joining import an_opaque_worker

PROMPT = "once upon a time "
PACE_S = 0.005
MODEL = ServedModel(
    NANO, Tokenizer.load(NANO), max_context=2048, pools=("default",), passes_chats=True
)


class House:
    """A gateway, and servers with a worker each that a test adds and kills."""

    def __init__(self, gateway: Gateway, workers: AsyncExitStack) -> None:
        self.gateway = gateway
        self._workers = workers
        self._servers: dict[str, AsyncExitStack] = {}

    async def add(self, server: FakeServer, **settings: Any) -> FakeServer:
        stack = await self.revive(server, 0)
        at = FakeGateway()
        at.address = Address.parse(self.gateway.workers_address)
        n = len(self.gateway.hub.workers)
        worker = an_opaque_worker(at, server, [], **settings)
        await self._workers.enter_async_context(running(worker))
        self._workers.push_async_callback(stack.aclose)
        await self.until(lambda: len(self.gateway.hub.workers) > n)
        return server

    async def revive(self, server: FakeServer, port: int) -> AsyncExitStack:
        stack = AsyncExitStack()
        await stack.enter_async_context(serving(server, port))
        self._servers[server.url] = stack
        return stack

    async def kill(self, server: FakeServer) -> None:
        await self._servers.pop(server.url).aclose()

    @staticmethod
    async def until(true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                await asyncio.sleep(0.01)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    fleet = Fleet(
        build("routing", "round-robin", {}, Random(0)),
        build("admission", "always", {}, Random(0)),
        Limits(),
        models=[NANO],
    )
    config = GatewayConfig(token=TOKEN, listen="127.0.0.1:0", heartbeat_s=0.2, tick_s=0.1)
    gateway = Gateway(config, fleet, {NANO: MODEL}, OBJECTIVES, "batch")
    gateway.driver.observers.append(Checker().observe)
    await gateway.start()
    async with AsyncExitStack() as workers:
        yield House(gateway, workers)
    await gateway.stop()


class Stream:
    """One streamed answer, as it comes."""

    def __init__(self, house: House, path: str = "/v1/completions", **body: Any) -> None:
        self.text = ""
        self.positions: list[int] = []
        self.calls: dict[int, dict[str, str]] = {}
        self.finish: str | None = None
        self.error: dict[str, Any] | None = None
        self.status = 0
        default = {"prompt": PROMPT} if path == "/v1/completions" else {}
        self._body = {
            "model": NANO,
            "max_tokens": 60,
            "stream": True,
            "temperature": 0,
            "fairlead": {"positions": True},
            **default,
            **body,
        }
        self.over = asyncio.create_task(self._run(house.gateway.url + path))

    async def _run(self, url: str) -> None:
        async with (
            httpx.AsyncClient(timeout=PATIENCE_S) as client,
            client.stream("POST", url, json=self._body) as reply,
        ):
            self.status = reply.status_code
            if reply.status_code != 200:
                self.error = json.loads(await reply.aread())["error"]
                return
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    self._take(json.loads(line[6:]))

    def _take(self, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            self.error = chunk["error"]
            return
        if place := chunk.get("fairlead"):
            self.positions += range(place["position"], place["position"] + place["n"])
        for choice in chunk["choices"]:
            self.text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            self.finish = choice["finish_reason"] or self.finish
            for call in choice.get("delta", {}).get("tool_calls", ()):
                made = self.calls.setdefault(call["index"], {"name": "", "arguments": ""})
                for key, value in call["function"].items():
                    made[key] += value

    def whole(self, n: int = 60) -> None:
        """Nothing repeated, nothing skipped, nothing else."""
        assert self.error is None
        assert self.text == continuation(list(PROMPT.encode()), n)
        assert self.positions == list(range(n))
        assert self.finish == "length"


TEXT_ONLY = {"owned_by": "me", "takes_ids": False, "returns_ids": False}


@pytest.mark.parametrize("kind", [{}, TEXT_ONLY], ids=["token-ids", "text"])
async def test_streams_of_a_server_that_dies_go_on_at_another(house, kind):
    first = await house.add(FakeServer(pace_s=PACE_S, **kind))
    second = await house.add(FakeServer(pace_s=PACE_S, **kind))
    streams = [Stream(house) for _ in range(4)]
    await house.until(lambda: all(len(stream.positions) > 10 for stream in streams))
    await house.kill(first)
    for stream in streams:
        await stream.over
        stream.whole()
    assert len(second.streamed) == 4
    assert len(first.streamed) == 2


async def test_a_stream_goes_on_between_servers_that_take_ids_and_those_that_take_text(house):
    first = await house.add(FakeServer(pace_s=PACE_S))
    stream = Stream(house)
    await house.until(lambda: len(stream.positions) > 10)
    await house.add(FakeServer(pace_s=PACE_S, **TEXT_ONLY))
    await house.kill(first)
    await stream.over
    stream.whole()


async def test_the_only_server_dies_and_its_streams_wait_until_it_is_back(house):
    server = await house.add(FakeServer(pace_s=PACE_S))
    port = int(server.url.rpartition(":")[2])
    stream = Stream(house)
    await house.until(lambda: len(stream.positions) > 10)
    await house.kill(server)
    await house.until(lambda: not house.gateway.hub.workers)
    await house.revive(server, port)
    await stream.over
    stream.whole()


async def test_a_stream_that_breaks_off_goes_on_without_the_server_being_given_up(house):
    server = await house.add(FakeServer(dies_after=7))
    stream = Stream(house, max_tokens=20)
    await stream.over
    stream.whole(20)
    assert len(server.streamed) == 3  # 7, 7 and 6 tokens.
    assert len(house.gateway.hub.workers) == 1


async def test_one_that_breaks_off_again_and_again_ends_with_a_word(house):
    await house.add(FakeServer(dies_after=0))
    stream = Stream(house)
    await stream.over
    assert stream.status == 503
    assert stream.error["code"] == "instances_lost"


CHATS = {"owned_by": "cloud", "has_completions": False}
HELLO = [{"role": "user", "content": "hi"}]


async def test_a_chat_whose_server_takes_whole_chats_only_ends_with_an_error_that_says_so(house):
    first = await house.add(FakeServer(pace_s=PACE_S, **CHATS), prompts="chat")
    stream = Stream(house, "/v1/chat/completions", messages=HELLO)
    await house.until(lambda: len(stream.positions) > 10)
    await house.add(FakeServer(**CHATS), prompts="chat")
    await house.kill(first)
    await stream.over
    assert stream.error["code"] == "cannot_go_on"
    assert "no other can go on with it; ask again" in stream.error["message"]
    assert "it takes whole chats only" in stream.error["message"]
    assert stream.finish is None


async def test_a_chat_goes_on_at_a_server_that_takes_ids_where_there_is_one(house):
    first = await house.add(FakeServer(pace_s=PACE_S, **CHATS), prompts="chat")
    stream = Stream(house, "/v1/chat/completions", messages=HELLO)
    await house.until(lambda: len(stream.positions) > 10)
    second = await house.add(FakeServer())
    await house.kill(first)
    await stream.over
    assert stream.error is None
    assert stream.positions == list(range(60))
    asked = second.streamed[0]
    n = 60 - asked["max_tokens"]
    assert bytes(asked["prompt"][-n:]).decode() == stream.text[:n]


async def test_a_plain_prompt_is_refused_where_only_chats_are_taken(house):
    await house.add(FakeServer(**CHATS), prompts="chat")
    stream = Stream(house)
    await stream.over
    assert stream.status == 400
    assert stream.error["code"] == "unsupported"
    assert "ask at /v1/chat/completions" in stream.error["message"]


async def test_what_a_server_will_not_do_its_client_hears_in_the_servers_words(house):
    server = await house.add(FakeServer())
    server.status, server.says = 400, "top_k must be smaller"
    stream = Stream(house, top_k=10**6)
    await stream.over
    assert stream.status == 400
    assert "top_k must be smaller" in stream.error["message"]


async def test_a_server_that_is_busy_passes_its_work_on(house):
    busy = await house.add(FakeServer())
    await house.add(FakeServer())
    busy.status, busy.says = 429, "slow down"
    streams = [Stream(house) for _ in range(4)]
    for stream in streams:
        await stream.over
        stream.whole()


async def test_a_revoked_key_takes_the_server_out_and_nobody_notices(house):
    revoked = await house.add(FakeServer())
    await house.add(FakeServer())
    revoked.status, revoked.says = 401, "who are you?"
    streams = [Stream(house) for _ in range(4)]
    for stream in streams:
        await stream.over
        stream.whole()
    assert len(house.gateway.hub.workers) == 1


ROOMY = {**CHATS, "max_context": 2048}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object"}, "strict": True},
}
TOOLS = [WEATHER, {"type": "function", "function": {"name": "get_time"}}]


def part(index: int, name: str | None = None, arguments: str | None = None) -> dict[str, Any]:
    own = {"name": name, "arguments": arguments}
    function = {key: value for key, value in own.items() if value is not None}
    return {"tool_calls": [{"index": index, "id": "theirs", "function": function}]}


ARGUMENTS = ['{"ci', 'ty": "Pa', 'ris"}']
CALLS = [
    {"role": "assistant", "content": "So: <tool_call>"},
    part(0, "get_weather", ""),
    *[part(0, arguments=text) for text in ARGUMENTS],
    part(1, "get_time", ""),
]


async def test_calls_that_a_server_tells_apart_are_passed_on(house):
    server = await house.add(FakeServer(**ROOMY, calls=CALLS), prompts="chat")
    messages = [
        *HELLO,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "get_time", "arguments": '{"a":1}'},
                }
            ],
        },
        {"role": "tool", "content": "noon", "tool_call_id": "c1"},
    ]
    choice = {"type": "function", "function": {"name": "get_weather"}}
    stream = Stream(
        house,
        "/v1/chat/completions",
        messages=messages,
        tools=TOOLS,
        tool_choice=choice,
        max_tokens=400,
    )
    await stream.over
    assert stream.error is None
    assert stream.finish == "tool_calls"
    assert stream.text == "So: <tool_call>"
    assert stream.calls == {
        0: {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    (asked,) = server.streamed
    assert asked["tools"] == TOOLS
    assert asked["tool_choice"] == choice
    assert asked["messages"] == messages
    assert "stop" not in asked


async def test_several_calls_of_a_server_are_passed_on(house):
    await house.add(FakeServer(**ROOMY, calls=CALLS[1:]), prompts="chat")
    body = {"messages": HELLO, "tools": TOOLS, "max_tokens": 400}
    stream = Stream(house, "/v1/chat/completions", **body)
    await stream.over
    assert stream.calls == {
        0: {"name": "get_weather", "arguments": '{"city": "Paris"}'},
        1: {"name": "get_time", "arguments": "{}"},
    }


async def test_a_call_whose_server_dies_in_the_middle_ends_with_an_error_that_says_so(house):
    calls = [*CALLS[1:3], *[part(0, arguments=" ")] * 1000]
    first = await house.add(FakeServer(**ROOMY, calls=calls, pace_s=PACE_S), prompts="chat")
    body = {"messages": HELLO, "tools": TOOLS, "max_tokens": 400}
    stream = Stream(house, "/v1/chat/completions", **body)
    await house.until(lambda: bool(stream.calls and stream.calls[0]["arguments"]))
    await house.add(FakeServer(**ROOMY), prompts="chat")
    await house.kill(first)
    await stream.over
    assert stream.error["code"] == "cannot_go_on"
    assert stream.finish is None


async def test_a_call_goes_on_as_text_at_a_server_that_takes_ids(house):
    calls = [*CALLS[1:3], *[part(0, arguments=" ")] * 1000]
    first = await house.add(FakeServer(**ROOMY, calls=calls, pace_s=PACE_S), prompts="chat")
    body = {"messages": HELLO, "tools": TOOLS, "max_tokens": 120}
    stream = Stream(house, "/v1/chat/completions", **body)
    await house.until(lambda: bool(stream.calls and stream.calls[0]["arguments"]))
    second = await house.add(FakeServer(max_context=2048))
    await house.kill(first)
    await stream.over
    assert stream.error is None
    prompt = second.streamed[0]["prompt"]
    asked = bytes([token for token in prompt if token < 256]).decode()
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"ci' in asked
    assert stream.calls[0]["arguments"].startswith('{"ci ')
    assert stream.finish == "length"


async def test_a_demanded_call_is_refused_by_servers_that_take_no_chats(house):
    await house.add(FakeServer(max_context=2048))
    body = {"messages": HELLO, "tools": TOOLS, "tool_choice": "required"}
    stream = Stream(house, "/v1/chat/completions", **body)
    await stream.over
    assert stream.status == 400
    assert "neither response_format, nor a tool_choice" in stream.error["message"]


async def test_in_a_mixed_fleet_a_demanded_call_finds_the_server_that_takes_chats(house):
    await house.add(FakeServer(max_context=2048))
    chats = await house.add(FakeServer(**ROOMY, calls=CALLS[1:]), prompts="chat")
    body = {"messages": HELLO, "tools": TOOLS, "tool_choice": "required", "max_tokens": 400}
    for _ in range(3):
        stream = Stream(house, "/v1/chat/completions", **body)
        await stream.over
        assert stream.finish == "tool_calls"
    assert len(chats.streamed) == 3


async def embed(house: House, given: Any = PROMPT) -> httpx.Response:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        body = {"model": NANO, "input": given}
        return await client.post(f"{house.gateway.url}/v1/embeddings", json=body)


@pytest.mark.parametrize("kind", [{}, TEXT_ONLY], ids=["token-ids", "text"])
async def test_embeddings_are_passed_through(house, kind):
    server = await house.add(FakeServer(**kind))
    answer = (await embed(house)).json()
    n = len(PROMPT)
    assert answer["data"][0]["embedding"] == [n, 2 * n]
    assert answer["usage"] == {"prompt_tokens": n, "total_tokens": n}
    (asked,) = server.embedded
    assert asked["input"] == (PROMPT if kind else list(PROMPT.encode()))


async def test_a_server_without_embeddings_refuses_and_stays(house):
    await house.add(FakeServer(embeds=None))
    answer = await embed(house)
    assert answer.status_code == 400
    assert "no /v1/embeddings" in answer.json()["error"]["message"]
    assert len(house.gateway.hub.workers) == 1
    await Stream(house).over


async def test_embeddings_go_elsewhere_from_servers_that_fail(house):
    (await house.add(FakeServer())).status = 500
    await house.add(FakeServer(embeds=False))
    await house.add(FakeServer(embeds=None))
    good = await house.add(FakeServer())
    answers = await asyncio.gather(*[embed(house) for _ in range(4)])
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(good.embedded) == 4


async def test_a_server_that_dies_costs_no_vector(house):
    dead = await house.add(FakeServer())
    good = await house.add(FakeServer())
    await house.kill(dead)
    answers = await asyncio.gather(*[embed(house) for _ in range(4)])
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(good.embedded) == 4


EMBEDS_ONLY: dict[str, Any] = {"has_completions": False, "has_chats": False}


async def test_a_server_of_embeddings_alone_serves_them_and_refuses_the_rest_in_words(house):
    server = await house.add(FakeServer(**EMBEDS_ONLY))
    n = len(PROMPT)
    assert (await embed(house)).json()["data"][0]["embedding"] == [n, 2 * n]
    for path, body in (
        ("/v1/completions", {"prompt": PROMPT}),
        ("/v1/chat/completions", {"messages": HELLO}),
    ):
        stream = Stream(house, path, **body)
        await stream.over
        assert stream.status == 400
        assert stream.error is not None
        assert "it serves embeddings only; ask at /v1/embeddings" in stream.error["message"]
    await asyncio.sleep(0.5)  # Some looks at its health, which want no token of it.
    assert len(house.gateway.hub.workers) == 1
    assert not server.bodies
    assert (await embed(house)).status_code == 200


async def test_beside_one_of_embeddings_alone_chats_find_who_answers_them(house):
    await house.add(FakeServer(**EMBEDS_ONLY))
    await house.add(FakeServer(embeds=None))
    for _ in range(3):
        stream = Stream(house)
        await stream.over
        assert stream.text == continuation(list(PROMPT.encode()), 60)
        assert (await embed(house)).status_code == 200


async def test_a_server_of_embeddings_alone_is_missed_and_taken_back(house):
    server = await house.add(FakeServer(**EMBEDS_ONLY))
    other = await house.add(FakeServer(**EMBEDS_ONLY))
    await house.kill(server)
    answers = await asyncio.gather(*[embed(house) for _ in range(4)])
    assert [answer.status_code for answer in answers] == [200] * 4
    await house.until(lambda: len(house.gateway.hub.workers) == 1)
    await house.revive(server, int(server.url.rpartition(":")[2]))
    await house.until(lambda: len(house.gateway.hub.workers) == 2)
    await house.kill(other)
    assert (await embed(house)).status_code == 200


async def test_one_whose_model_is_gone_is_no_instance_any_more(house):
    server = await house.add(FakeServer(**EMBEDS_ONLY))
    await house.add(FakeServer())
    server.embeds = None
    answers = await asyncio.gather(*[embed(house) for _ in range(4)])
    assert [answer.status_code for answer in answers] == [200] * 4
    await house.until(lambda: len(house.gateway.hub.workers) == 1)
