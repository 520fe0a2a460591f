"""Calls that a model begins by itself: those of strict functions obey their schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")
pytest.importorskip("llguidance", reason="needs fairlead[engine]: llguidance")

import tokenizers

from fairlead import engine
from fairlead.engine.grammar import Grammars
from fairlead.engine.models import resolve_model
from fairlead.gateway.tools.fields import Function
from fairlead.gateway.tools.grammar import calls_grammar, text_or_calls_grammar
from fairlead.model import Sampling
from fairlead.text import NANO, Tokenizer
from fairlead.text.call_format import MARKS, CallFormat
from tests.engine.conftest import Driver
from tests.engine.test_grammar import CITIES, _said, _sequence

FUNCTIONS = (
    Function("get_weather", parameters=CITIES, strict=True),
    Function("note", parameters={"type": "object", "properties": {"text": {"enum": ["x"]}}}),
)
WEATHER = '{"city": "Rome", "days": 2}'


@pytest.fixture(scope="module")
def nano() -> Any:
    return engine.load(engine.EngineConfig(NANO, threads=1, n_blocks=256))


class Follower:
    """What a grammar allows to whom has nano's tokenizer, with marks as text, tokens or special
    tokens."""

    def __init__(self, marks: str, folder: Path) -> None:
        nano = resolve_model(NANO)
        self._made = tokenizers.Tokenizer.from_file(str(nano / "tokenizer.json"))
        if marks == "tokens":
            self._made.add_tokens(sorted(MARKS))
        elif marks == "special":
            self._made.add_special_tokens(sorted(MARKS))
        self._made.save(str(folder / "tokenizer.json"))
        for name in ("config.json", "tokenizer_config.json"):
            (folder / name).write_text((nano / name).read_text())
        told = Tokenizer.load(str(folder))
        self.marks = told.has_token("<tool_call>")
        assert self.marks is (marks != "text")
        (self._eos,) = told.eos_token_ids
        self._grammars = Grammars(folder, told.vocab_size, told.eos_token_ids)

    def follow(self, grammar: str, said: str) -> tuple[str, bool]:
        """How much of it may be said, and whether the answer may end there."""
        tokens = self._made.encode(said, add_special_tokens=False).ids
        sequence = _sequence([], Sampling(grammar=grammar))
        for n, token in enumerate(tokens):
            if not self._grammars.bits(sequence)[token // 32] >> (token % 32) & 1:
                tokens = tokens[:n]
                break
            sequence.token_ids.append(token)
        may_end = self._grammars.bits(sequence)[self._eos // 32] >> (self._eos % 32) & 1
        return self._made.decode(tokens, skip_special_tokens=False), bool(may_end)


@pytest.fixture(params=["text", "tokens", "special"])
def follower(request: pytest.FixtureRequest, tmp_path: Path) -> Follower:
    return Follower(request.param, tmp_path)


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def llama(name: str, arguments: str) -> str:
    return f'{{"name": "{name}", "parameters": {arguments}}}'


@pytest.mark.parametrize(
    ("said", "may_end"),
    [
        ("", True),
        ("Let me see: <b>{}</b>, naïve ☃", True),
        ("Well, " + hermes("get_weather", WEATHER), True),
        (hermes("get_weather", WEATHER) + "\n" + hermes("note", '{"any": [1, "thing"]}'), True),
        (hermes("get_weather", WEATHER) + " and that is it.", True),
        ("Well, " + hermes("get_weather", WEATHER)[:60], False),
    ],
)
def test_text_and_calls_that_obey_may_be_said(follower, said, may_end):
    grammar = text_or_calls_grammar(CallFormat.HERMES, FUNCTIONS, marks=follower.marks)
    assert follower.follow(grammar, said) == (said, may_end)


@pytest.mark.parametrize(
    ("obeys", "rest"),
    [
        ('Hm. <tool_call>\n{"name": "', 'zero"'),
        ("Hm. <tool_call>", " well"),
        ('<tool_call>\n{"name": "get_weather", "arguments": {"', 'town": "Rome"'),
        ('<tool_call>\n{"name": "get_weather", "arguments": {"city": "', 'Bonn"'),
        ('<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"', "}"),
    ],
)
def test_nothing_else_may_follow_the_beginning_of_a_call(follower, obeys, rest):
    grammar = text_or_calls_grammar(CallFormat.HERMES, FUNCTIONS, marks=follower.marks)
    assert follower.follow(grammar, obeys + rest) == (obeys, False)


def test_demanded_calls_have_the_models_own_marks(follower):
    grammar = calls_grammar(CallFormat.HERMES, FUNCTIONS, only_one=True, marks=follower.marks)
    said = hermes("get_weather", WEATHER)
    assert follower.follow(grammar, said) == (said, True)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", ("", True)),
        ("It is {sunny}.", ("It is {sunny}.", True)),
        ('{"answer": 1}', ('{"answer": 1}', True)),
        (llama("get_weather", WEATHER), (llama("get_weather", WEATHER), True)),
        (llama("get_weather", '{"town"'), ('{"name": "get_weather", "parameters": {"', False)),
        (llama("zero", "{}"), ('{"name": "', False)),
    ],
)
def test_a_call_without_marks_is_the_whole_answer(tmp_path, said, told):
    grammar = text_or_calls_grammar(CallFormat.LLAMA_JSON, FUNCTIONS)
    assert Follower("text", tmp_path).follow(grammar, said) == told


def drawn(nano: Any, made: Tokenizer, grammar: str, begun: tuple[int, ...]) -> list[int]:
    """What is drawn up to the end of a call."""
    driver = Driver(nano)
    sampling = Sampling(temperature=1.5, seed=3, grammar=grammar)
    sequence = driver.add(f"t{len(begun)}", made.encode("Hi"), sampling, begun)
    while not made.decode(_said(sequence)).endswith("</tool_call>"):
        output = driver.step({sequence: sequence.n_uncomputed})
        assert not output.stopped, "it ended in the middle of a call"
    return _said(sequence)


def test_whatever_is_drawn_behind_the_mark_is_a_call(nano):
    """The built-in model knows no calls: nothing but the mask can bring this about. Where the
    answer was begun elsewhere makes no difference."""
    made = Tokenizer.load(NANO)
    grammar = text_or_calls_grammar(CallFormat.HERMES, FUNCTIONS[:1])
    begun = tuple(made.encode_bare("Well. <tool_call>"))
    whole = drawn(nano, made, grammar, begun)
    body = made.decode(whole).removeprefix("Well. <tool_call>").removesuffix("</tool_call>")
    arguments = json.loads(body)["arguments"]
    assert arguments["city"] in ("Paris", "Rome")
    assert arguments["days"] in (1, 2)
    assert drawn(nano, made, grammar, tuple(whole[: len(begun) + 40])) == whole
