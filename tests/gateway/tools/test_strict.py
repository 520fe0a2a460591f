"""Strict functions where the model decides: who holds their calls to the schema, and where nobody
can."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from benchmarks.fake_worker import SPEC

from tests.gateway.conftest import MODEL, new_gateway
from tests.gateway.tools.scripted import PARIS, TIME, WEATHER, ScriptedWorker
from tests.patience import PATIENCE_S

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
HELLO = [{"role": "user", "content": "hello"}]
STRICT = {**WEATHER, "strict": True}


class House:
    def __init__(self, http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
        self.http = http
        self._worker = worker

    async def grammar(self, path: str, **body: Any) -> str:
        """What the answer was held to."""
        answer = await self.http.post(path, json={"model": SPEC.model, **body})
        assert answer.status_code == 200, answer.text
        return self._worker.submits[-1].request.sampling.grammar


@pytest.fixture(params=[True])
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """Whether an engine of the model can constrain its output is the parameter."""
    gateway = new_gateway(
        model=replace(MODEL, constrains_output=request.param, max_context=100_000)
    )
    await gateway.start()
    worker = ScriptedWorker(PARIS)
    await worker.join(gateway.workers_address)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as http:
        yield House(http, worker)
    await gateway.stop()


def chat(*functions: dict[str, Any], **more: Any) -> dict[str, Any]:
    tools = [{"type": "function", "function": function} for function in functions]
    return {"messages": HELLO, "tools": tools, **more}


async def test_a_strict_function_holds_its_calls_and_no_others(house):
    grammar = await house.grammar(CHAT, **chat(STRICT, TIME))
    assert "start: call* rest" in grammar
    weather, time = (line for line in grammar.splitlines() if line.startswith("args_"))
    assert '"city"' in weather
    assert "properties" not in time


async def test_without_a_strict_function_nothing_is_held(house):
    assert await house.grammar(CHAT, **chat(WEATHER, TIME)) == ""
    assert await house.grammar(CHAT, **chat({**WEATHER, "strict": False})) == ""
    assert await house.grammar(CHAT, **chat(STRICT, tool_choice="none")) == ""


async def test_other_apis_have_strict_functions_too(house):
    tool = {"type": "function", **STRICT}
    assert '"city"' in await house.grammar(RESPONSES, input="hello", tools=[tool])
    mine = {"name": "get_weather", "input_schema": WEATHER["parameters"], "strict": True}
    body = {"messages": HELLO, "max_tokens": 200, "tools": [mine]}
    assert '"city"' in await house.grammar(MESSAGES, **body)


async def test_a_demanded_call_is_held_whether_strict_or_not(house):
    for weather in (STRICT, WEATHER):
        grammar = await house.grammar(CHAT, **chat(weather, tool_choice="required"))
        assert grammar.startswith("start: calls\n")
        assert '"city"' in grammar


@pytest.mark.parametrize("house", [False], indirect=True)
async def test_where_no_engine_can_it_is_left_to_the_model(house):
    assert await house.grammar(CHAT, **chat(STRICT)) == ""


@pytest.mark.parametrize(
    ("changes", "param", "part"),
    [
        ({"ignore_eos": True}, "ignore_eos", "contradicts strict"),
        ({"min_tokens": 5}, "min_tokens", "contradicts strict"),
        ({"n_tools": 3}, "tools", "strict: all schemas together"),
    ],
)
async def test_what_cannot_be_held_is_refused_by_name(house, changes, param, part):
    big = {"type": "object", "properties": {"x": {"const": "x" * 20_000}}}
    many = [
        {"name": f"f{k}", "strict": True, "parameters": big}
        for k in range(changes.pop("n_tools", 0))
    ]
    body = {"model": SPEC.model, **chat(*(many or [STRICT])), **changes}
    answer = await house.http.post(CHAT, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert part in error["message"]
