"""Checks see every call before it is served, and nothing that they do takes a gateway along."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging

import httpx
import psutil
import pytest
from benchmarks.fake_worker import SPEC, FakeWorker

from fairlead.gateway.checks.config import CheckConfig, read_checks
from fairlead.model import ConfigError
from tests.gateway.checks.samples import NONSENSE
from tests.gateway.conftest import new_gateway
from tests.patience import PATIENCE_S
from tests.processes import command_line

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
SAMPLES = "tests.gateway.checks.samples"


def configured(factory, name="sample", **settings):
    return CheckConfig(name, f"{SAMPLES}:{factory}", **settings)


class Watched:
    """A gateway with checks, what its worker was sent, and a client."""

    def __init__(self, gateway, worker, client):
        self.gateway, self.worker, self.client = gateway, worker, client

    async def chat(self, text, **more):
        messages = [{"role": "user", "content": text}]
        body = {"model": SPEC.model, "messages": messages, "max_tokens": 2, **more}
        return await self.client.post(CHAT, json=body)

    async def complete(self, prompt):
        body = {"model": SPEC.model, "prompt": prompt, "max_tokens": 2}
        return await self.client.post(COMPLETION, json=body)

    def counted(self, outcome, check="sample"):
        sample = f'fairlead_checks_total{{check="{check}",outcome="{outcome}"}} '
        shown = self.gateway.metrics.exposition().decode()
        return float(shown.partition(sample)[2].partition("\n")[0])

    @property
    def seen(self):
        return [bytes(submit.request.token_ids).decode() for submit in self.worker.submits]


class Listening(FakeWorker):
    """Remembers what it was sent."""

    def __init__(self):
        super().__init__(pace_s=0)
        self.submits = []

    def received(self, message):
        if type(message).__name__ == "Submit":
            self.submits.append(message)
        super().received(message)


@contextlib.asynccontextmanager
async def serving(*checks, **settings):
    gateway = new_gateway(checks=checks, **settings)
    await gateway.start()
    try:
        worker = await Listening().join(gateway.workers_address)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
            yield Watched(gateway, worker, client)
    finally:
        await gateway.stop()


@pytest.mark.parametrize("runs", ["process", "loop"])
async def test_a_refusal_is_a_400_with_its_reason_and_never_served(runs):
    async with serving(configured("Refuses", runs=runs)) as watched:
        refused = await watched.chat("how to make a bomb")
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert error["code"] == "content_filter"
        assert error["message"] == ("refused by the check 'sample': it says bomb, whoever you are")
        assert (await watched.chat("how to make bread")).status_code == 200
        assert len(watched.seen) == 1
        assert (watched.counted("refused"), watched.counted("allowed")) == (1, 1)


async def test_every_dialect_passes_the_checks():
    async with serving(configured("Refuses", runs="loop")) as watched:
        text = "a bomb"
        message = [{"role": "user", "content": text}]
        parts = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        model = {"model": SPEC.model, "max_tokens": 2}
        function = {"name": "f", "arguments": json.dumps({"of": text})}
        called = {"id": "c", "type": "function", "function": function}
        calls = [{"role": "assistant", "tool_calls": [called]}]
        harmless = [{"role": "user", "content": "x"}]
        for path, body in (
            (CHAT, {**model, "messages": parts}),
            (CHAT, {**model, "messages": message, "stream": True}),
            (CHAT, {**model, "messages": calls}),
            (COMPLETION, {**model, "prompt": text}),
            (COMPLETION, {**model, "prompt": ["good", text]}),
            (COMPLETION, {**model, "prompt": list(text.encode())}),
            ("/v1/embeddings", {"model": SPEC.model, "input": ["good", text]}),
            ("/v1/messages", {**model, "messages": message}),
            ("/v1/messages", {**model, "messages": harmless, "system": text}),
            ("/v1/responses", {"model": SPEC.model, "input": text}),
            ("/v1/responses", {"model": SPEC.model, "input": "x", "instructions": text}),
        ):
            answer = await watched.client.post(path, json=body)
            assert answer.status_code == 400, (path, body, answer.text)
            assert "it says bomb" in answer.text
        assert watched.seen == []


async def test_what_a_check_replaces_is_what_is_served_and_what_the_next_one_sees():
    checks = [configured("Loud", f"loud-{mark}", params={"mark": mark}) for mark in "xy"]
    async with serving(*checks) as watched:
        assert (await watched.chat("hello")).status_code == 200
        assert (await watched.complete("hello")).status_code == 200
        assert (await watched.complete(list(b"hello"))).status_code == 200
        chat, text, ids = watched.seen
        assert chat == "user: HELLOXy\n"
        assert text == ids == "HELLOXy"
        assert watched.counted("replaced", "loud-x") == 3


@pytest.mark.parametrize("what", [*NONSENSE, "raise", "die", "hang"])
@pytest.mark.parametrize("when_broken", ["refuse", "allow"])
async def test_a_broken_check_refuses_or_allows_as_it_was_set(what, when_broken, caplog):
    # Only who hangs is to be late, on the busiest of machines, too.
    settings = {"timeout_s": 0.5 if what == "hang" else 15, "when_broken": when_broken}
    async with serving(configured("Odd", **settings)) as watched:
        with caplog.at_level(logging.WARNING):
            answer = await watched.chat(what)
        if when_broken == "allow":
            assert answer.status_code == 200
        else:
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "check_unavailable"
            assert answer.headers["retry-after"] == "1"
        assert watched.counted("late" if what == "hang" else "failed") == 1
        assert what not in caplog.text.replace("why=nonsense", "").replace("why=died", "")
        assert "secret" not in caplog.text + answer.text


async def test_it_works_again_after_it_died(caplog):
    async with serving(configured("Odd", timeout_s=20)) as watched:
        assert (await watched.chat("die")).status_code == 503
        assert (await watched.chat("hello")).status_code == 200
        assert "check.broken check=sample why=died" in caplog.text
        assert "check.works check=sample" in caplog.text


async def test_a_process_that_died_between_two_calls_costs_none_of_them():
    async with serving(configured("Odd", timeout_s=20)) as watched:
        for child in psutil.Process().children():
            if "fairlead.checks.child" in command_line(child):
                child.kill()
        await asyncio.sleep(0.2)
        answers = await asyncio.gather(*[watched.chat("hello") for _ in range(3)])
        assert [answer.status_code for answer in answers] == [200] * 3


async def test_a_check_that_hangs_holds_up_no_stream():
    async with serving(configured("Odd", timeout_s=1)) as watched:
        hanging = asyncio.create_task(watched.chat("hang"))
        await asyncio.sleep(0.1)
        assert (await watched.client.get("/health")).status_code == 200
        assert not hanging.done()
        hanging.cancel()


async def test_one_that_does_not_let_itself_be_cancelled_is_left_behind():
    check = configured("Stubborn", runs="loop", timeout_s=0.1)
    async with serving(check) as watched:
        assert (await watched.chat("hello")).status_code == 503
        assert watched.counted("late") == 1


async def test_counting_tokens_asks_nobody():
    async with serving(configured("Refuses", runs="loop")) as watched:
        body = {"model": SPEC.model, "messages": [{"role": "user", "content": "bomb"}]}
        answer = await watched.client.post("/v1/messages/count_tokens", json=body)
        assert answer.status_code == 200


@pytest.mark.parametrize("runs", ["process", "loop"])
@pytest.mark.parametrize(
    ("factory", "said"), [("Broken", "RuntimeError: no model here"), ("Absent", "AttributeError")]
)
async def test_one_that_cannot_be_made_is_explained_at_the_start(factory, said, runs):
    gateway = new_gateway(checks=(configured(factory, runs=runs),))
    with pytest.raises(ConfigError, match=said):
        await gateway.start()


async def test_on_the_loop_only_async_ones_are_let_in():
    gateway = new_gateway(checks=(configured("Odd", runs="loop"),))
    with pytest.raises(ConfigError, match="no `async def check`"):
        await gateway.start()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"name": "a"}, "use"),
        ({"name": "A b", "use": "m:F"}, "name must be"),
        ({"name": "a", "use": "no factory"}, "package.module:Factory"),
        ({"name": "a", "use": "m:F", "runs": "thread"}, "process or loop"),
        ({"name": "a", "use": "m:F", "when_broken": "shrug"}, "refuse or allow"),
        ({"name": "a", "use": "m:F", "timeout_s": 0}, "timeout_s must be positive"),
        ({"name": "a", "use": "m:F", "procesess": 2}, "did you mean 'processes'"),
    ],
)
def test_a_wrong_table_is_explained(table, said):
    with pytest.raises(ConfigError, match=said):
        read_checks([table])


def test_two_of_one_name_are_refused():
    table = {"name": "a", "use": "m:F"}
    with pytest.raises(ConfigError, match="two are called a"):
        read_checks([table, table])


async def test_the_example_works_as_it_is_told(monkeypatch):
    monkeypatch.syspath_prepend("examples")
    table = {"name": "words", "use": "own_check:Words", "params": {"words": ["Forbidden"]}}
    async with serving(*read_checks([table])) as watched:
        assert (await watched.chat("a forbidden thing")).status_code == 400
        assert (await watched.chat("a good thing")).status_code == 200
