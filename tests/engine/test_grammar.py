"""Outputs that are held to a JSON Schema, or to calls of tools."""

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
from fairlead.gateway.tools.fields import Function
from fairlead.gateway.tools.grammar import calls_grammar
from fairlead.instance.sequence import Sequence
from fairlead.model import FinishReason, Sampling
from fairlead.text import NANO, Tokenizer
from fairlead.text.call_format import CallFormat
from fairlead.text.call_reader import CallReader
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


CITIES = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"city": {"enum": ["Paris", "Rome"]}},
}
FUNCTIONS = (Function("get_weather", parameters=CITIES), Function("get_time"))


def call(
    nano: Any, tokenizer: Tokenizer, grammar: str, seed: int, produced: tuple[int, ...] = ()
) -> tuple[list[int], FinishReason | None]:
    """What is said under a grammar, at a temperature at which this model says anything."""
    driver = Driver(nano)
    sampling = Sampling(temperature=1.5, seed=seed, grammar=grammar)
    sequence = driver.add(f"g{next(_NUMBERS)}", tokenizer.encode("Hi"), sampling, produced)
    while sequence.n_produced < 900:
        output = driver.step({sequence: sequence.n_uncomputed})
        if sequence.id in output.stopped:
            return _said(sequence), output.stopped[sequence.id]
    return _said(sequence), None


@pytest.mark.parametrize("format", list(CallFormat))
def test_a_demanded_call_is_one_that_obeys_its_functions_schema(nano, tokenizer, format):
    grammar = calls_grammar(format, FUNCTIONS, only_one=True)
    called = set()
    for seed in range(4):
        tokens, reason = call(nano, tokenizer, grammar, seed)
        assert reason is FinishReason.STOP
        reader = CallReader(format, {function.name for function in FUNCTIONS})
        begun, *given = reader.feed(tokenizer.decode(tokens)) + reader.flush()
        arguments = json.loads("".join([piece.text for piece in given]))
        called.add(begun.name)
        if begun.name == "get_time":
            assert arguments == {}
        else:
            assert arguments["city"] in ("Paris", "Rome")
            assert arguments["days"] in (1, 2)
            assert len(arguments) == 2
    assert called <= {"get_weather", "get_time"}


def test_a_call_that_is_cut_anywhere_goes_on_as_if_nothing_had_happened(nano, tokenizer):
    grammar = calls_grammar(CallFormat.HERMES, FUNCTIONS[:1], only_one=True)
    whole, reason = call(nano, tokenizer, grammar, 5)
    for cut in (3, len(whole) // 2, len(whole) - 1):
        assert call(nano, tokenizer, grammar, 5, tuple(whole[:cut])) == (whole, reason)


def test_several_calls_or_an_answer_by_a_schema_may_be_allowed(nano, tokenizer):
    schema = json.dumps({"type": "object", "required": ["a"], "properties": {"a": {"enum": [1]}}})
    grammars = Grammars(resolve_model(NANO), tokenizer.vocab_size, tokenizer.eos_token_ids)
    grammar = calls_grammar(CallFormat.HERMES, FUNCTIONS, only_one=False, else_schema=schema)
    one = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    (eos,) = tokenizer.eos_token_ids
    whole = {'{"a": 1}': True, one: True, f"{one}\n{one}": True, "well": False, one[:-1]: False}
    for said, may_end in whole.items():
        row = torch.zeros(tokenizer.vocab_size)
        sampling = Sampling(grammar=grammar)
        tokens = tokenizer.encode_bare(said)
        if said == "well":
            grammars.mask(row, _sequence([], sampling))
            assert row[tokens[0]].item() == float("-inf")
            continue
        grammars.mask(row, _sequence(tokens, sampling))
        assert (row[eos].item() == 0.0) is may_end


def test_objections_to_a_tools_schema_say_so(nano):
    bad = Function("f", parameters={"properties": {"a": {"$ref": "http://10.0.0.1/x"}}})
    grammar = calls_grammar(CallFormat.HERMES, [bad], only_one=True)
    assert "a schema of the tools cannot be followed" in nano.objection(Sampling(grammar=grammar))


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
