"""What the gateway sees of a server: its tokens, its failures, its going and coming."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from fairlead.model import ConfigError, FinishReason, RefuseWhy
from fairlead.worker.wire import (
    Abort,
    Drain,
    Frame,
    Goodbye,
    Heartbeat,
    Move,
    Moved,
    Rejected,
    Submit,
)
from tests.patience import PATIENCE_S
from tests.worker.fakes import a_gateway, a_request, running, text_of, tokens_of
from tests.worker.opaque.fake_server import FakeServer, continuation, serving
from tests.worker.opaque.joining import an_opaque_worker, in_front_of


def prompt_of(request) -> list[int]:
    return list(request.token_ids)


async def test_tokens_come_by_their_ids_and_end_with_the_servers_word():
    request = a_request(max_tokens=20, prompt=40)
    async with in_front_of(FakeServer()) as (line, hello):
        assert hello.spec.model == "fairlead-nano"
        assert hello.spec.max_context == 512
        assert hello.spec.address == ""
        line.say(Submit(request, 1, []))
        frames = await line.hear_end_of("r1")
    assert text_of(frames) == continuation(prompt_of(request), 20)
    assert len(tokens_of(frames)) == 20
    (end,) = frames[-1].ended
    assert (end.reason, end.cached_tokens) == (FinishReason.LENGTH, 16)


async def test_a_stream_begun_elsewhere_goes_on_at_the_next_token():
    request = a_request(max_tokens=20)
    whole = continuation(prompt_of(request), 20)
    server = FakeServer()
    async with in_front_of(server) as (line, _):
        line.say(Submit(request, 4, list(whole[:7].encode())))
        frames = await line.hear_end_of("r1")
    assert frames[0].rows[0].start == 7
    assert frames[0].rows[0].attempt == 4
    assert text_of(frames) == whole[7:]
    assert server.streamed[0]["max_tokens"] == 13


async def test_of_text_alone_the_fleet_gets_tokens_too():
    request = a_request(max_tokens=20)
    server = FakeServer(owned_by="me", takes_ids=False, returns_ids=False)
    async with in_front_of(server) as (line, _):
        line.say(Submit(request, 1, []))
        frames = await line.hear_end_of("r1")
    assert isinstance(server.streamed[0]["prompt"], str)
    assert bytes(tokens_of(frames)).decode() == text_of(frames)
    assert len(tokens_of(frames)) == 20


async def test_a_stop_string_is_found_here_and_the_server_is_left():
    request = a_request(max_tokens=200, prompt=3)
    text = continuation(prompt_of(request), 200)
    stop = text[40:44]
    server = FakeServer(pace_s=0.002)
    async with in_front_of(server) as (line, _):
        line.say(Submit(a_request(max_tokens=200, prompt=3, stop=(stop,)), 1, []))
        frames = await line.hear_end_of("r1")
        assert text_of(frames) == text[: text.index(stop)]
        assert frames[-1].ended[0].reason is FinishReason.STOP
        await until(lambda: server.hung_up == 1)
    assert "stop" not in server.streamed[0]


async def test_an_abort_hangs_up_on_the_server():
    server = FakeServer(pace_s=0.01)
    async with in_front_of(server) as (line, _):
        line.say(Submit(a_request(max_tokens=400), 1, []))
        await line.hear(Frame)
        line.say(Abort("r1", 1))
        await until(lambda: server.hung_up == 1)
        report = (await line.hear(Heartbeat, lambda m: not m.report.requests)).report
        assert (report.running, report.waiting) == (0, 0)


async def test_a_stream_that_breaks_off_while_the_server_is_well_goes_elsewhere_by_itself():
    async with in_front_of(FakeServer(dies_after=5)) as (line, _):
        line.say(Submit(a_request(max_tokens=20), 1, []))
        rejected = await line.hear(Rejected)
        frames = [m for m in line.heard if isinstance(m, Frame)]
    assert len(tokens_of(frames)) == 5
    assert rejected.why is RefuseWhy.FAILED
    assert (rejected.request, rejected.attempt) == ("r1", 1)


async def test_one_that_stands_still_does_too():
    server = FakeServer(hangs_after=5)
    async with in_front_of(server, next_token_timeout_s=0.3) as (line, _):
        line.say(Submit(a_request(max_tokens=20), 1, []))
        rejected = await line.hear(Rejected)
    assert rejected.why is RefuseWhy.FAILED
    assert "no token for" in rejected.said


@pytest.mark.parametrize("misdeed", ["garbage_after", "gives_up_after"])
async def test_so_do_garbage_and_an_end_that_is_none(misdeed):
    async with in_front_of(FakeServer(**{misdeed: 3})) as (line, _):
        line.say(Submit(a_request(max_tokens=20), 1, []))
        assert (await line.hear(Rejected)).why is RefuseWhy.FAILED


async def test_a_server_that_fails_again_and_again_counts_as_down_though_it_says_it_is_well():
    said: list[str] = []
    async with in_front_of(FakeServer(dies_after=0), said) as (line, _):
        for attempt in (1, 2):
            line.say(Submit(a_request(max_tokens=20), attempt, []))
            await line.hear(Rejected)
        line.say(Submit(a_request(max_tokens=20), 3, []))
        goodbye = await line.hear(Goodbye)
    assert "it says that it is well, and fails" in goodbye.why


async def test_what_a_server_quotes_of_a_prompt_goes_to_its_client_and_into_no_log():
    said: list[str] = []
    server = FakeServer()
    async with in_front_of(server, said) as (line, _):
        server.status, server.says = 500, "cannot parse 'my secret'"
        for attempt in (1, 2):
            line.say(Submit(a_request(max_tokens=20), attempt, []))
            assert "my secret" in (await line.hear(Rejected)).said
        line.say(Submit(a_request(max_tokens=20), 3, []))
        goodbye = await line.hear(Goodbye)
    assert goodbye.why.endswith("fails: status 500")
    assert not any("secret" in line for line in said)


@pytest.mark.parametrize(
    ("status", "says", "why"),
    [
        (429, "slow down", RefuseWhy.QUEUE_FULL),
        (400, "This model's maximum context length is 512 tokens", RefuseWhy.TOO_LONG),
        (400, "min_p is not supported", RefuseWhy.UNSUPPORTED),
        (422, "unknown field min_p", RefuseWhy.UNSUPPORTED),
        (500, "oh", RefuseWhy.FAILED),
    ],
)
async def test_a_refusal_is_passed_on_with_the_servers_words(status, says, why):
    server = FakeServer()
    async with in_front_of(server) as (line, _):
        server.status, server.says = status, says
        line.say(Submit(a_request(max_tokens=20), 1, []))
        rejected = await line.hear(Rejected)
    assert rejected.why is why
    assert says in rejected.said


async def test_what_cannot_fit_is_refused_without_asking_the_server():
    server = FakeServer()
    async with in_front_of(server) as (line, _):
        line.say(Submit(a_request(max_tokens=600), 1, []))
        assert (await line.hear(Rejected)).why is RefuseWhy.TOO_LONG
    assert not server.streamed


async def test_a_server_of_chats_gets_the_messages_and_nothing_that_has_begun():
    chat = b'{"messages":[{"role":"user","content":"hi"}]}'
    request = msgspec.structs.replace(a_request(max_tokens=20), chat=chat)
    server = FakeServer(owned_by="cloud", has_completions=False)
    async with in_front_of(server, prompts="chat") as (line, _):
        line.say(Submit(request, 1, []))
        frames = await line.hear_end_of("r1")
        assert text_of(frames) == continuation(list(b"user: hi\n"), 20)
        assert server.streamed[0]["messages"] == [{"role": "user", "content": "hi"}]
        line.say(Submit(request, 2, [97, 98]))
        assert (await line.hear(Rejected)).why is RefuseWhy.CANNOT_GO_ON
        line.say(Submit(a_request(max_tokens=20), 3, []))
        assert (await line.hear(Rejected)).why is RefuseWhy.UNSUPPORTED


async def test_a_hand_off_is_declined():
    async with in_front_of(FakeServer(pace_s=0.01)) as (line, _):
        line.say(Submit(a_request(max_tokens=400), 1, []))
        await line.hear(Frame)
        line.say(Move("r1", 1, 2, "127.0.0.1:1"))
        assert await line.hear(Moved) == Moved("r1", 1, False)


async def test_a_drain_finishes_what_is_inside_and_takes_nothing_new():
    async with in_front_of(FakeServer(pace_s=0.005)) as (line, _):
        line.say(Submit(a_request(max_tokens=30), 1, []))
        await line.hear(Frame)
        line.say(Drain(), Submit(a_request("r2"), 1, []))
        assert (await line.hear(Rejected)).why is RefuseWhy.DRAINING
        await line.hear(Heartbeat, lambda beat: beat.leaving)
        frames = [m for m in line.heard if isinstance(m, Frame)] + await line.hear_end_of("r1")
        assert len(tokens_of(frames)) == 30
        assert await line.hear(Goodbye) == Goodbye("drained")


async def test_a_server_that_dies_is_no_instance_until_it_is_back():
    server, said = FakeServer(pace_s=0.01), []
    async with a_gateway() as gateway:
        async with serving(server):
            port = int(server.url.rpartition(":")[2])
            worker = an_opaque_worker(gateway, server, said)
            task = running(worker)
            await task.__aenter__()
            line = await gateway.line()
            first = await line.welcome()
            line.say(Submit(a_request(max_tokens=400), 1, []))
            await line.hear(Frame)
        goodbye = await line.hear(Goodbye)
        assert goodbye.why.startswith("its server is down")
        async with serving(server, port):
            line = await gateway.line()
            again = await line.welcome()
            line.say(Submit(a_request(max_tokens=5), 2, []))
            assert len(tokens_of(await line.hear_end_of("r1"))) == 5
            await task.__aexit__(None, None, None)
    assert first.spec.incarnation != again.spec.incarnation
    assert any("is down" in line for line in said)


async def test_a_server_that_is_not_there_yet_is_waited_for():
    server, said = FakeServer(), []
    async with a_gateway() as gateway:
        async with serving(server):
            port = int(server.url.rpartition(":")[2])
        async with running(an_opaque_worker(gateway, server, said)):
            await until(lambda: bool(said))
            assert "nobody answers there" in said[0]
            async with serving(server, port):
                line = await gateway.line()
                assert (await line.welcome()).spec.max_context == 512
                line.hang_up()


async def test_what_somebody_has_to_change_ends_a_worker_at_its_start():
    async with serving(FakeServer()) as server, a_gateway() as gateway:
        with pytest.raises(ConfigError, match="does not serve 'nope'"):
            await an_opaque_worker(gateway, server, [], served_as="nope").run()


async def test_reports_tell_what_is_inside_and_what_others_brought():
    server = FakeServer(
        pace_s=0.01,
        page='vllm:num_requests_running{a="b"} 3\nvllm:num_requests_waiting 2\n'
        "vllm:kv_cache_usage_perc 0.25\n"
        'vllm:cache_config_info{block_size="16",num_gpu_blocks="400"} 1.0\n',
    )
    async with in_front_of(server) as (line, hello):
        assert hello.spec.n_blocks == 400
        line.say(Submit(a_request(max_tokens=400, prompt=40), 1, []))
        await line.hear(Frame)
        ours = await line.hear(
            Heartbeat, lambda m: bool(m.report.requests) and m.report.running == 3
        )
        report = ours.report
    assert report.requests == (("r1", 1),)
    assert report.waiting == 2
    assert report.free_blocks == 300
    assert report.context_tokens > 40


async def test_a_client_that_has_gone_takes_everything_with_it():
    server = FakeServer(pace_s=0.01)
    async with in_front_of(server) as (line, _):
        line.say(Submit(a_request(max_tokens=400), 1, []), Submit(a_request("r2"), 1, []))
        await line.hear(Frame)
        line.hang_up()
        await until(lambda: server.hung_up >= 1)


async def until(true) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.01)
