"""Which way a model writes calls is read off its chat template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.text import NANO, Tokenizer
from fairlead.text.call_format import CallFormat

QWEN = """\
{%- if tools %}
    {{- '<|im_start|>system\\nWithin <tool_call></tool_call>: {"name": <function-name>, \
"arguments": <args-json-object>}' }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role }}
    {%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
    {%- for tool_call in message.tool_calls %}
        {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
        {{- '\\n<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
        {{- tool_call.arguments | tojson }}{{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}"""
LLAMA = """\
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", ' }}{{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}{{- "}" }}{{- "<|eot_id|>" }}
    {%- else %}
        {{- message['content'] | trim }}{{- '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if tools is not none %}{{- tools | tojson }}{%- endif %}"""
XML = QWEN.replace(
    '{"name": "\' }}{{- tool_call.name }}{{- \'", "arguments": ', "<function=' }}{{- 'x>"
)
OTHER_MARKS = LLAMA.replace('\'{"name": "\'', '\'<call>{"name": "\'')


@pytest.mark.parametrize(
    ("template", "format"),
    [
        (QWEN, CallFormat.HERMES),
        (LLAMA, CallFormat.LLAMA_JSON),
        (XML, None),
        (OTHER_MARKS, None),
        ("{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}", None),
        ("{{ tools }}{{ raise_exception('no') }}", None),
    ],
)
def test_the_format_is_that_in_which_the_template_writes_a_call(
    write_model: Callable[..., Path], template: str, format: CallFormat | None
) -> None:
    folder = write_model("byte-level", tokenizer_config={"chat_template": template})
    tokenizer = Tokenizer.load(str(folder))
    assert tokenizer.takes_tools
    assert tokenizer.call_format is format


def test_a_template_without_tools_has_no_format(write_model: Callable[..., Path]) -> None:
    template = QWEN.replace("tools", "tolls")
    folder = write_model("byte-level", tokenizer_config={"chat_template": template})
    tokenizer = Tokenizer.load(str(folder))
    assert not tokenizer.takes_tools
    assert tokenizer.call_format is None


def test_nano_writes_calls_as_hermes_does() -> None:
    assert Tokenizer.load(NANO).call_format is CallFormat.HERMES


def test_marks_of_calls_are_text_even_where_a_tokenizer_calls_them_special(tmp_path: Path) -> None:
    from tests.text.conftest import byte_level

    made = byte_level()
    made.add_special_tokens(["<tool_call>"])
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(str(tmp_path))
    ids = tokenizer.encode("a <tool_call> b<|end|>")
    assert made.token_to_id("<tool_call>") in ids
    assert tokenizer.decode(ids) == "a <tool_call> b"
