"""Every mistake has its status and a message in OpenAI's shape, and disturbs nothing."""

from __future__ import annotations

import asyncio
import json
import re
import socket

import pytest
from benchmarks.fake_worker import SPEC

from fairlead.gateway import GatewayConfig
from fairlead.model import ConfigError
from tests.gateway.conftest import new_gateway
from tests.patience import PATIENCE_S

CHAT = "/v1/chat/completions"
PLAIN = "/v1/completions"
GOOD = {"model": SPEC.model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


def chat(**changes):
    return json.dumps(GOOD | changes).encode()


def plain(**changes):
    return json.dumps({"model": SPEC.model, "prompt": "hello", "max_tokens": 2} | changes).encode()


def says(content):
    return [{"role": "user", "content": content}]


IMAGE = says([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "x"}}])

BAD = [
    # address, body, status, parameter, what the message must contain
    (CHAT, b"", 400, None, "not valid JSON"),
    (CHAT, b"{", 400, None, "not valid JSON"),
    (CHAT, b"\xff\xfe", 400, None, "not valid JSON"),
    (CHAT, b"[]", 400, None, "Expected `object`"),
    (CHAT, b"[" * 100_000, 400, None, "Expected `object`"),
    (CHAT, b'{"x":' + b"[" * 100_000, 400, None, "nested too deeply"),
    (CHAT, b'{"model":"\xff"}', 400, None, "UTF-8"),
    (CHAT, b'{"messages":[]}', 400, "model", "missing parameter: model"),
    (CHAT, chat(model="gpt-9"), 404, "model", "served here: fake-model"),
    (CHAT, chat(model=7), 400, "model", "Expected `str`"),
    (CHAT, chat(messages=[]), 400, "messages", "must not be empty"),
    (CHAT, chat(messages="hello"), 400, "messages", "Expected `array`"),
    (CHAT, chat(messages=[{"content": "x"}]), 400, "messages[0].role", "missing"),
    (CHAT, chat(messages=[{"role": "robot", "content": "x"}]), 400, "messages", "unknown role"),
    (CHAT, chat(messages=IMAGE), 400, "messages", "reads text only"),
    (CHAT, chat(messages=says([{"type": "input_audio"}])), 400, "messages", "input_audio"),
    (CHAT, chat(max_tokens="many"), 400, "max_tokens", "Expected `int"),
    (CHAT, chat(max_tokens=0), 400, "max_tokens", ">= 1"),
    (CHAT, chat(max_tokens=10**30), 400, "max_tokens", "<= 2147483647"),
    (CHAT, chat(max_tokens=501), 400, "max_tokens", "512"),
    (CHAT, chat(messages=says("x" * 600)), 400, "messages", "607 tokens"),
    (CHAT, chat(temperature=2.5), 400, "temperature", "<= 2"),
    (CHAT, chat(temperature="hot"), 400, "temperature", "Expected `float"),
    (CHAT, chat(top_p=0), 400, "top_p", "> 0"),
    (CHAT, chat(n=0), 400, "n", ">= 1"),
    (CHAT, chat(n=1000), 400, "n", "<= 128"),
    (CHAT, chat(seed=2**70), 400, "seed", "<= 9223372036854775807"),
    (CHAT, chat(stop=[""]), 400, "stop", "must not be empty"),
    (CHAT, chat(stop=["x"] * 17), 400, "stop", "<= 16"),
    (CHAT, chat(stop_token_ids=[256]), 400, "stop_token_ids", "0 to 255"),
    (CHAT, chat(min_tokens=3), 400, "min_tokens", "over max_tokens"),
    (CHAT, chat(priority=2**40), 400, "priority", "<="),
    (CHAT, chat(top_logprobs=2), 400, "top_logprobs", "needs logprobs"),
    (CHAT, chat(service_tier="gold"), 400, "service_tier", "interactive, batch"),
    (CHAT, chat(fairlead={"ttft": 1}), 400, "fairlead.ttft", "did you mean 'ttft_s'"),
    (CHAT, chat(fairlead={"ttft_s": -1}), 400, "fairlead.ttft_s", "> 0"),
    (CHAT, chat(tools=[{"type": "function"}]), 400, "tools", "has no `function`"),
    (CHAT, chat(response_format={"type": "json_object"}), 400, "response_format", "not supported"),
    (CHAT, chat(logit_bias={"5": 1}), 400, "logit_bias", "not supported"),
    (PLAIN, plain(echo=True), 400, "echo", "not supported"),
    (PLAIN, plain(best_of=3), 400, "best_of", "not supported"),
    (PLAIN, plain(prompt=""), 400, "prompt", "must not be empty"),
    (PLAIN, plain(prompt=[]), 400, "prompt", "not empty"),
    (PLAIN, plain(prompt=[1, "a"]), 400, "prompt", "list of token ids"),
    (PLAIN, plain(prompt=[[1], ["a"]]), 400, "prompt", "integers only"),
    (PLAIN, plain(prompt=[300]), 400, "prompt", "0 to 255"),
    (PLAIN, plain(prompt=[-1]), 400, "prompt", "got -1"),
    (PLAIN, plain(prompt=["a"] * 300), 400, "n", "split the call"),
]


@pytest.mark.parametrize(("path", "body", "status", "param", "part"), BAD)
async def test_a_mistake_is_explained(asleep, path, body, status, param, part):
    answer = await asleep.post(path, content=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert part in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


async def test_header_hints_are_checked_like_the_body(asleep):
    answer = await asleep.post(CHAT, content=chat(), headers={"X-Fairlead-TTFT-S": "soon"})
    assert answer.status_code == 400
    assert "ttft_s" in answer.json()["error"]["message"]


async def test_unknown_addresses_and_methods(asleep):
    assert (await asleep.get("/v1/nothing")).status_code == 404
    assert (await asleep.get("/v1/nothing")).json()["error"]["code"] == "unknown_url"
    wrong = await asleep.get(CHAT)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert (await asleep.get("/v1/models/nothing")).json()["error"]["code"] == "model_not_found"


async def test_no_instance_yet_is_a_503_in_time(in_memory, gateway):
    """Requests queue for a while; more than may queue are told when to come back."""
    waiting = [asyncio.create_task(in_memory.post(CHAT, content=chat())) for _ in range(4)]
    await asyncio.sleep(0.05)
    answer = await in_memory.post(CHAT, content=chat())
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["code"] == "queue_full"
    for task in waiting:
        task.cancel()


async def test_a_body_over_the_limit_is_a_413_even_while_it_is_sent(http, gateway, worker):
    limit = gateway.config.max_body_bytes
    answer = await http.post(CHAT, content=b" " * (limit + 1))
    assert answer.status_code == 413
    assert str(limit) in answer.json()["error"]["message"]
    assert (await http.post(CHAT, content=chat())).status_code == 200


async def test_what_is_not_http_is_told_so(gateway):
    host, _, port = gateway.address.rpartition(":")
    with socket.create_connection((host, int(port))) as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"\x16\x03\x01 nonsense\r\n\r\n")
        answer = await loop.sock_recv(client, 4096)
    assert answer.startswith(b"HTTP/1.1 400")
    assert re.search(rb'\{"error":\{.*\}\}$', answer)


async def test_endless_headers_are_cut_off(gateway):
    host, _, port = gateway.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /health HTTP/1.1\r\n" + b"x-more: %b\r\n" % (b"y" * 1000) * 70)
    assert (await reader.read(4096)).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_body_that_does_not_arrive_is_a_408():
    gateway = new_gateway(body_timeout_s=0.05)
    await gateway.start()
    host, _, port = gateway.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST %b HTTP/1.1\r\ncontent-length: 500\r\n\r\n{" % CHAT.encode())
    assert (await reader.read(4096)).startswith(b"HTTP/1.1 408")
    writer.close()
    await gateway.stop()


async def test_a_connection_that_asks_nothing_is_closed():
    gateway = new_gateway(keep_alive_s=0.6)
    await gateway.start()
    host, _, port = gateway.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == b""
    writer.close()
    await gateway.stop()


async def test_a_port_in_use_is_named(gateway):
    second = new_gateway(listen=gateway.address)
    with pytest.raises(ConfigError, match=f"{gateway.address} is in use"):
        await second.start()


def test_a_configuration_reports_all_its_problems():
    with pytest.raises(ConfigError) as caught:
        GatewayConfig(token="", listen="nowhere", heartbeat_s=0)
    for part in ("token", "listen: 'nowhere'", "heartbeat_s"):
        assert part in str(caught.value)
