"""Outputs that are held to a JSON Schema."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")
pytest.importorskip("llguidance", reason="needs fairlead[engine]: llguidance")

import torch

from fairlead import engine
from fairlead.engine.grammar import Grammars
from fairlead.engine.models import resolve_model
from fairlead.instance.sequence import Sequence
from fairlead.model import FinishReason, Sampling
from fairlead.text import NANO, Tokenizer
from tests.engine.conftest import Driver

PERSON = {
    "type": "object",
    "properties": {
        "name": {"enum": ["Ann", "Bob"]},
        "ages": {"type": "array", "items": {"enum": [7, 30]}, "maxItems": 1},
    },
    "required": ["name", "ages"],
    "additionalProperties": False,
}
ANY_OBJECT = {"type": "object"}


@pytest.fixture(scope="module")
def nano() -> Any:
    return engine.load(engine.EngineConfig(NANO, threads=1, n_blocks=256))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(NANO)


_NUMBERS = itertools.count()


def speak(
    nano: Any,
    tokenizer: Tokenizer,
    schema: dict[str, Any],
    produced: tuple[int, ...] = (),
    most: int = 120,
    **settings: Any,
) -> tuple[list[int], FinishReason | None]:
    """All output tokens, and why they ended; None: `most` came first."""
    driver = Driver(nano)
    sampling = Sampling(json_schema=json.dumps(schema), **settings)
    prompt = tokenizer.encode("Tell me about Ann")
    sequence = driver.add(f"g{next(_NUMBERS)}", prompt, sampling, produced)
    while sequence.n_produced < most:
        output = driver.step({sequence: sequence.n_uncomputed})
        if sequence.id in output.stopped:
            return _said(sequence), output.stopped[sequence.id]
    return _said(sequence), None


def _said(sequence: Sequence) -> list[int]:
    return list(sequence.token_ids[sequence.prompt_tokens :])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_whatever_is_drawn_obeys_the_schema(nano, tokenizer, temperature):
    """The built-in model knows no JSON at all: nothing but the mask can bring this about."""
    for seed in range(2):
        tokens, reason = speak(nano, tokenizer, PERSON, temperature=temperature, seed=seed)
        assert reason is FinishReason.STOP
        person = json.loads(tokenizer.decode(tokens))
        assert set(person) == {"name", "ages"}
        assert person["name"] in ("Ann", "Bob")
        assert set(person["ages"]) <= {7, 30}


def test_an_output_cut_anywhere_goes_on_as_if_nothing_had_happened(nano, tokenizer):
    whole, reason = speak(nano, tokenizer, PERSON, temperature=1.0, seed=1)
    assert reason is FinishReason.STOP
    for cut in (1, len(whole) // 2, len(whole) - 1):
        resumed = speak(nano, tokenizer, PERSON, tuple(whole[:cut]), temperature=1.0, seed=1)
        assert resumed == (whole, reason)


def test_neighbours_without_a_schema_are_left_alone(nano, tokenizer):
    prompt = tokenizer.encode("Tell me about Ann")

    def free(neighbour: bool) -> list[int]:
        driver = Driver(nano)
        sequence = driver.add("free", prompt, Sampling(temperature=1.0, seed=9, ignore_eos=True))
        others = []
        if neighbour:
            sampling = Sampling(temperature=1.0, seed=4, json_schema=json.dumps(ANY_OBJECT))
            others = [driver.add("held", prompt, sampling)]
        for _ in range(12):
            driver.step({s: s.n_uncomputed for s in [sequence, *others]})
        nano.forget("held")
        return _said(sequence)

    assert free(neighbour=True) == free(neighbour=False)


def test_the_end_comes_only_where_the_output_is_whole(tokenizer):
    grammars = Grammars(resolve_model(NANO), tokenizer.vocab_size, tokenizer.eos_token_ids)
    sampling = Sampling(json_schema=json.dumps(ANY_OBJECT))
    (eos,) = tokenizer.eos_token_ids
    for said, may_end in (("{", False), ('{"a"', False), ('{"a":1}', True)):
        row = torch.zeros(tokenizer.vocab_size)
        grammars.mask(row, _sequence(tokenizer.encode_bare(said), sampling))
        assert (row[eos].item() == 0.0) is may_end


def test_objections_say_what_is_wrong_with_a_schema(nano):
    def objection(schema: object) -> str:
        return str(nano.objection(Sampling(json_schema=json.dumps(schema))))

    assert objection(PERSON) == ""
    assert "nope" in objection({"type": "nope"})
    assert "http://10.0.0.1/x" in objection({"$ref": "http://10.0.0.1/x"})
    assert "oneOf" in objection({"oneOf": [ANY_OBJECT, PERSON]})
    assert objection({"$ref": "#"})
    assert nano.objection(Sampling()) == ""


def test_a_grammar_that_gives_up_ends_as_cut_and_not_as_whole(nano, tokenizer):
    broken = tuple(tokenizer.encode_bare('{"name": "Nobody'))
    tokens, reason = speak(nano, tokenizer, PERSON, broken, temperature=1.0)
    assert reason is FinishReason.LENGTH
    assert len(tokens) == len(broken) + 1


def _sequence(produced: list[int], sampling: Sampling) -> Sequence:
    driver = Driver.__new__(Driver)
    driver.sequences = {}
    return driver.add(f"s{next(_NUMBERS)}", (1, 2), sampling, tuple(produced))
