"""Clients that leave, clients that are slow, and what a stream looks like on the wire."""

from __future__ import annotations

import asyncio
import json
import socket

from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.gateway.direct import DirectProtocol
from fairlead.model import RefuseWhy
from fairlead.worker import wire
from tests.gateway.conftest import new_gateway

CHAT = "/v1/chat/completions"


def body(**changes):
    messages = [{"role": "user", "content": "hello"}]
    return {"model": SPEC.model, "messages": messages, "max_tokens": 50, "seed": 1} | changes


def events(text):
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line]


async def begin(gateway, **changes):
    """A raw connection whose request is under way."""
    host, _, port = gateway.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    data = json.dumps(body(**changes)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    return reader, writer


async def test_a_client_that_hangs_up_frees_its_sequence_at_once(gateway, by_hand):
    for stream in (True, False):
        by_hand.submits.clear()
        _, writer = await begin(gateway, stream=stream)
        await by_hand.until(lambda: by_hand.submits)
        submit = by_hand.submits[0]
        by_hand.step()
        writer.transport.abort()
        await by_hand.until(lambda s=submit: (s.request.id, s.attempt) in by_hand.aborted)
        assert gateway.driver.outlets == {}
        assert not gateway.driver._fleet.requests


async def test_whoever_says_no_more_is_gone_before_their_connection_is(
    gateway, by_hand, monkeypatch
):
    """What came in between was counted and did not leave: the transport was closing already."""
    waiting = []
    lost = DirectProtocol.connection_lost

    def look(self, exc):
        waiting.append(dict(gateway.driver.outlets))
        lost(self, exc)

    monkeypatch.setattr(DirectProtocol, "connection_lost", look)
    reader, writer = await begin(gateway, stream=True)
    await by_hand.until(lambda: by_hand.submits)
    by_hand.step()
    await reader.readuntil(b"data: ")
    writer.write_eof()
    await reader.read()
    await by_hand.until(lambda: by_hand.aborted)
    assert waiting == [{}]


async def test_in_memory_clients_that_leave_are_noticed_too(gateway, by_hand):
    data = json.dumps(body(stream=True)).encode()
    left = asyncio.Event()
    first = asyncio.Event()
    came = iter([{"type": "http.request", "body": data, "more_body": False}])

    async def receive():
        for message in came:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        first.set()

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": []}
    call = asyncio.create_task(gateway.app(scope, receive, send))
    await by_hand.until(lambda: by_hand.submits)
    by_hand.step()
    await first.wait()
    left.set()
    await call
    await by_hand.until(lambda: by_hand.aborted)


async def test_a_slow_client_is_cancelled_and_others_go_on():
    gateway = new_gateway(max_stream_buffer_bytes=64 * 1024)
    await gateway.start()
    worker = await FakeWorker().join(gateway.workers_address)
    # A client with a small window that never reads, over sockets that hold little.
    host, _, port = gateway.address.rpartition(":")
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect((host, int(port)))
    data = json.dumps(body(stream=True, max_tokens=400)).encode()
    lazy.sendall(b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), len(data)))
    lazy.sendall(data)
    await worker.until(lambda: len(worker.submits) == 1)
    reader, writer = await begin(gateway, stream=True, max_tokens=400)
    await worker.until(lambda: len(worker.submits) == 2)
    slow, quick = worker.submits
    for position in range(100):
        rows = [wire.Row(s.request.id, 1, position, [1], "x" * 100_000) for s in (slow, quick)]
        worker.send(wire.Frame(rows))
        await reader.readuntil(b"x" * 100_000)
    await worker.until(lambda: worker.aborted)
    assert worker.aborted == {(slow.request.id, 1)}
    worker.send(wire.Frame([wire.Row(quick.request.id, 1, 100, [1], "the end")]))
    await reader.readuntil(b"the end")
    writer.transport.abort()
    lazy.close()
    await gateway.stop()


async def test_positions_name_every_token_once(http, worker):
    answer = await http.post(
        CHAT, json=body(stream=True, max_tokens=5, fairlead={"positions": True})
    )
    chunks = [json.loads(event) for event in events(answer.text)[:-1]]
    places = [chunk["fairlead"] for chunk in chunks if "fairlead" in chunk]
    assert places == [{"position": k, "n": 1} for k in range(5)]


async def test_positions_are_told_even_where_the_text_is_empty(http, gateway, by_hand):
    asking = asyncio.create_task(
        http.post(CHAT, json=body(stream=True, max_tokens=2, fairlead={"positions": True}))
    )
    await by_hand.until(lambda: by_hand.submits)
    request = by_hand.submits[0].request
    by_hand.send(wire.Frame([wire.Row(request.id, 1, 0, [7], "")]))
    by_hand.speeches[request.id].position = 1
    by_hand.step()
    chunks = [json.loads(event) for event in events((await asking).text)[:-1]]
    assert [c["fairlead"]["position"] for c in chunks if "fairlead" in c] == [0, 1]


async def test_a_stream_goes_on_at_its_next_token_when_its_instance_dies(http, gateway, by_hand):
    asking = asyncio.create_task(
        http.post(CHAT, json=body(stream=True, max_tokens=6, fairlead={"positions": True}))
    )
    await by_hand.until(lambda: by_hand.submits)
    for _ in range(3):
        by_hand.step()
    other = await FakeWorker().join(gateway.workers_address)
    by_hand.leave()
    await other.until(lambda: other.submits)
    assert len(other.submits[0].produced) == 3
    for _ in range(3):
        other.step()
    chunks = [json.loads(event) for event in events((await asking).text)[:-1]]
    assert [c["fairlead"]["position"] for c in chunks if "fairlead" in c] == [*range(6)]
    undisturbed = asyncio.create_task(http.post(CHAT, json=body(max_tokens=6)))
    await other.until(lambda: len(other.submits) == 2)
    for _ in range(6):
        other.step()
    whole = (await undisturbed).json()["choices"][0]["message"]["content"]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == whole
    assert b"fairlead_resumed_total 1.0" in gateway.metrics.exposition()


async def test_a_failure_after_the_first_token_is_an_event(gateway, by_hand):
    reader, writer = await begin(gateway, stream=True)
    await by_hand.until(lambda: by_hand.submits)
    by_hand.step()
    await reader.readuntil(b"finish_reason")
    await gateway.stop()
    rest = (await reader.read()).decode()
    assert 'data: {"error":{"message":"this server stopped' in rest
    assert "[DONE]" not in rest
    writer.close()


async def test_a_rejection_of_one_choice_ends_the_call(in_memory, gateway, by_hand):
    asking = asyncio.create_task(in_memory.post(CHAT, json=body(n=2)))
    await by_hand.until(lambda: len(by_hand.submits) == 2)
    first, second = by_hand.submits
    by_hand.send(wire.Rejected(second.request.id, 1, RefuseWhy.TOO_LONG))
    answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_long")
    await by_hand.until(lambda: (first.request.id, 1) in by_hand.aborted)


async def test_what_a_request_carries_into_the_fleet(in_memory, gateway, worker):
    headers = {"X-Fairlead-Program": "p1", "X-Fairlead-TTFT-S": "9"}
    sent = body(
        max_tokens=2,
        service_tier="batch",
        user="u1",
        priority=-3,
        temperature=0,
        top_k=-1,
        ignore_eos=True,
        fairlead={"ttft_s": 0.5, "expected_output_tokens": 7},
    )
    await in_memory.post(CHAT, json=sent, headers=headers)
    request = worker.submits[0].request
    assert (request.objective.name, request.objective.ttft_s) == ("batch", 0.5)
    assert (request.user, request.priority, request.program) == ("u1", -3, "p1")
    assert request.expected_output_tokens == 7
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.ignore_eos) == (0, 0, True)


async def test_without_max_tokens_an_answer_may_fill_the_context(in_memory, gateway, by_hand):
    sent = body()
    del sent["max_tokens"]
    asking = asyncio.create_task(in_memory.post(CHAT, json=sent))
    await by_hand.until(lambda: by_hand.submits)
    request = by_hand.submits[0].request
    assert request.max_tokens == 512 - request.prompt_tokens
    asking.cancel()


async def test_pipelined_and_reused_connections_answer_in_order(gateway, worker):
    reader, writer = await begin(gateway, max_tokens=1)
    data = json.dumps(body(max_tokens=2, stream=True)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data + b"GET /health HTTP/1.0\r\n\r\n")
    text = (await reader.read()).decode()
    whole, streamed, health = (
        text.index("chat.completion"),
        text.index("[DONE]"),
        text.index('"status":"ok"'),
    )
    assert whole < streamed < health
    writer.close()


async def test_http_1_0_gets_a_stream_without_chunks(gateway, worker):
    host, _, port = gateway.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body(max_tokens=3, stream=True)).encode()
    writer.write(b"POST %b HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), len(data)))
    writer.write(data)
    head, _, stream = (await reader.read()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert events(stream.decode())[-1] == "[DONE]"
    writer.close()


async def test_choices_of_one_call_say_so_and_a_lone_one_says_nothing(gateway, by_hand):
    for n in (1, 3):
        await begin(gateway, n=n)
        await by_hand.until(lambda n=n: len(by_hand.submits) == n)
        calls = [submit.request.call for submit in by_hand.submits]
        assert len(set(calls)) == 1
        assert bool(calls[0]) == (n > 1)
        by_hand.submits.clear()
