"""Calls of tools in text: found however it is cut, and nothing else is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.text.call_format import SHAPES, CallFormat
from fairlead.text.call_reader import MAX_HEAD_CHARS, Called, CallReader, Given, Said

HERMES, LLAMA = CallFormat.HERMES, CallFormat.LLAMA_JSON
NAMES = frozenset({"f", "get-it"})
CUT = ("said", '"quo\\"ted\\\\"', "}", "{", "</tool_call>", "<tool_call>", "é", "日")


def written(format: CallFormat, *calls: tuple[str, Any]) -> str:
    shape = SHAPES[format]
    return shape.separator.join(
        shape.begin(json.dumps(name)) + json.dumps(given) + shape.closing for name, given in calls
    )


def read(format: CallFormat, parts: Sequence[str], **settings: Any) -> list[Any]:
    """What comes out: text as it is, calls as pairs of their name and their arguments."""
    reader = CallReader(format, NAMES, **settings)
    pieces = [piece for part in parts for piece in reader.feed(part)] + reader.flush()
    found: list[Any] = []
    for piece in pieces:
        match piece:
            case Said(text):
                if found and isinstance(found[-1], str):
                    found[-1] += text
                else:
                    found.append(text)
            case Called(index, name):
                assert index == sum(isinstance(one, list) for one in found)
                found.append([name, ""])
            case Given(index, text):
                assert index == sum(isinstance(one, list) for one in found) - 1
                found[-1][1] += text
    return [one if isinstance(one, str) else (one[0], json.loads(one[1])) for one in found]


@pytest.mark.parametrize("format", list(CallFormat))
def test_calls_come_out_of_the_text(format):
    calls = [("f", {"a": [1, {"b": "}"}]}), ("get-it", {})]
    assert read(format, [written(format, *calls)]) == calls


def test_text_around_calls_that_are_marked_stays_text():
    text = f"Let me see.\n\n{written(HERMES, ('f', {}))}\n{written(HERMES, ('f', {'x': 1}))} Done."
    assert read(HERMES, [text]) == ["Let me see.", ("f", {}), ("f", {"x": 1}), " Done."]


@pytest.mark.parametrize(
    ("format", "text"),
    [
        (HERMES, "Nothing to call here.  \n"),
        (HERMES, '{"name": "f", "arguments": {}}'),
        (HERMES, "so \n <tool_call>\nnot JSON\n</tool_call> and more"),
        (HERMES, '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "f", "argu'),
        (HERMES, "<tool_call>"),
        (HERMES, "<tool_ca"),
        (HERMES, '<tool_call>{"other": 1}</tool_call>'),
        (HERMES, '<tool_call>{"name": 7, "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'),
        (HERMES, "<tool_call>" + "{" * 3000),
        (LLAMA, 'It is {"name": "f", "parameters": {}}'),
        (LLAMA, '{"city": "Paris"}'),
        (LLAMA, '  {"name": "unknown", "parameters": {}}'),
        (LLAMA, '{"name": "f"'),
        (LLAMA, " \n "),
        (LLAMA, ""),
    ],
)
def test_what_is_no_call_of_a_tool_that_was_offered_stays_as_it_was_written(format, text):
    for parts in ([text], list(text)):
        assert "".join(read(format, parts)) == text


@pytest.mark.parametrize(
    ("format", "text"),
    [
        (HERMES, '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>'),
        (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>'),
        (HERMES, '<tool_call>{"name":"f","arguments":{"a":1}}'),
        (LLAMA, '{"type": "function", "name": "f", "parameters": {"a": 1}}'),
        (LLAMA, '\n{ "name" : "f", "arguments": {"a": 1} } '),
    ],
)
def test_other_orders_and_spaces_are_read_too(format, text):
    for parts in ([text], list(text)):
        assert read(format, parts) == [("f", {"a": 1})]


def test_a_call_whose_name_comes_late_is_read_at_its_end():
    long = {"a": "x" * 2 * MAX_HEAD_CHARS}
    call = json.dumps({"arguments": long, "name": "f"})
    assert read(HERMES, list(f"<tool_call>{call}</tool_call> so")) == [("f", long), " so"]


def test_arguments_leave_as_they_come():
    reader = CallReader(HERMES, NAMES)
    assert reader.feed('Now <tool_call>\n{"name": "f", "argum') == [Said("Now")]
    assert reader.feed('ents": {"a": "b') == [Called(0, "f"), Given(0, '{"a": "b')]
    assert reader.feed("\\") == []
    assert reader.feed('"') == [Given(0, '\\"')]
    assert reader.feed('"}}\n</tool') == [Given(0, '"}')]
    assert reader.feed("_call>") == reader.flush() == []


def test_arguments_that_were_cut_are_given_as_far_as_they_came():
    reader = CallReader(LLAMA, NAMES)
    pieces = reader.feed('{"name": "f", "parameters": {"a": [1, 2') + reader.flush()
    assert pieces == [Called(0, "f"), Given(0, '{"a": [1, 2')]


@pytest.mark.parametrize("format", list(CallFormat))
def test_where_one_call_is_enough_the_rest_is_dropped(format):
    text = written(format, ("f", {}), ("f", {"b": 1})) + " and so on"
    for parts in ([text], list(text)):
        assert read(format, parts, only_one=True) == [("f", {})]


def test_what_is_said_to_be_plain_is_not_looked_into():
    reader = CallReader(HERMES, NAMES)
    text = written(HERMES, ("f", {}))
    assert reader.feed(text, plain=True) == [Said(text)]
    assert reader.feed(text) == [Called(0, "f"), Given(0, "{}")]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(CUT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_calls = st.lists(
    st.tuples(st.sampled_from(sorted(NAMES)), st.dictionaries(st.text(), _json, max_size=3)),
    min_size=1,
    max_size=3,
)


@given(_calls, st.sampled_from(list(CallFormat)), st.lists(st.integers(1, 9)), st.booleans())
def test_calls_are_found_however_their_text_is_cut(calls, format, sizes, talks):
    before = "Well " if talks and format is HERMES else ""
    text = before + written(format, *calls)
    parts = []
    for size in sizes:
        parts.append(text[:size])
        text = text[size:]
    assert read(format, [*parts, text]) == [*(["Well"] if before else []), *calls]


@given(st.text(st.sampled_from('{}"\\:, <>/aftol_cnm')), st.sampled_from(list(CallFormat)))
def test_no_text_makes_the_reader_stumble_and_cuts_change_nothing(text, format):
    assert _folded(format, [text]) == _folded(format, list(text))


def _folded(format: CallFormat, parts: Sequence[str]) -> list[tuple[str, str]]:
    reader = CallReader(format, NAMES)
    folded: list[tuple[str, str]] = []
    for piece in [piece for part in parts for piece in reader.feed(part)] + reader.flush():
        kind = type(piece).__name__
        text = piece.name if isinstance(piece, Called) else piece.text
        if folded and folded[-1][0] == kind != "Called":
            folded[-1] = (kind, folded[-1][1] + text)
        else:
            folded.append((kind, text))
    return folded
