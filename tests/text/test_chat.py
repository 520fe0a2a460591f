from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.model import ModelError, RequestError
from fairlead.text import NANO, Tokenizer, model_folder

nano = Tokenizer.load(NANO)

CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hello!"}],
    [
        {"role": "system", "content": "Be brief. <|end|>"},
        {"role": "user", "content": "Grüße, 日本 🚢\n\n"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": ""},
    ],
    [{"role": "developer", "content": "{{ not a template }}"}],
]

FULL = """\
{{ bos_token }}{% for message in messages %}
    {%- if loop.index > 3 %}{% break %}{% endif %}
[{{ message['role'] }}] {% generation %}{{ message['content'] | trim }}{% endgeneration %}

{% endfor %}
{% if tools %}{{ tools | tojson }} {{ tools | tojson(indent=2) }}{% endif %}
{% if strftime_now('%Y') | length != 4 %}no year{% endif %}
{% if style is defined %}{{ style }}{% endif %}
{% if add_generation_prompt %}[assistant]{% endif %}
"""


def ids_of_transformers(folder: Path, messages: list[dict[str, Any]], **options: Any) -> list[int]:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ids = theirs.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
    return list(ids)


@pytest.mark.parametrize("messages", CHATS)
@pytest.mark.parametrize("prompt", [True, False])
def test_nano_chats_have_the_ids_of_transformers(
    messages: list[dict[str, Any]], prompt: bool
) -> None:
    expected = ids_of_transformers(model_folder(NANO), messages, add_generation_prompt=prompt)
    assert nano.encode_chat(messages, add_generation_prompt=prompt) == expected


def test_a_nano_chat_is_plain_to_read() -> None:
    ids = nano.encode_chat([{"role": "user", "content": "Hi"}])
    assert "".join(nano.token_text(i) for i in ids) == "<|begin|><|user|>Hi<|end|><|assistant|>"


@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "é<b>"}}]])
@pytest.mark.parametrize("in_file", [True, False])
def test_what_templates_use_renders_as_in_transformers(
    write_model: Callable[..., Path], tools: list[dict[str, Any]] | None, in_file: bool
) -> None:
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|end|>"}
    template = {} if in_file else {"chat_template": FULL}
    folder = write_model("byte-level", tokenizer_config={**settings, **template})
    if in_file:
        (folder / "chat_template.jinja").write_text(FULL)
    expected = ids_of_transformers(
        folder, CHATS[0], tools=tools, add_generation_prompt=True, style="dry"
    )
    ours = Tokenizer.load(str(folder))
    assert ours.encode_chat(CHATS[0], tools=tools, variables={"style": "dry"}) == expected


def with_template(write_model: Callable[..., Path], template: Any) -> Tokenizer:
    folder = write_model("byte-level", tokenizer_config={"chat_template": template})
    return Tokenizer.load(str(folder))


def test_named_templates_are_chosen_by_whether_there_are_tools(
    write_model: Callable[..., Path],
) -> None:
    tokenizer = with_template(
        write_model,
        [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}],
    )
    assert tokenizer.decode(tokenizer.encode_chat(CHATS[0])) == "plain"
    assert tokenizer.decode(tokenizer.encode_chat(CHATS[0], tools=[{"a": 1}])) == "tools"


def test_text_parts_are_joined_by_lines() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    joined = nano.encode_chat([{"role": "user", "content": "one\ntwo"}])
    assert nano.encode_chat([{"role": "user", "content": parts}]) == joined


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {}}, 7, {"type": "text"}])
def test_a_part_that_is_no_text_is_refused(part: Any) -> None:
    with pytest.raises(RequestError, match="send parts of type 'text'") as caught:
        nano.encode_chat([{"role": "user", "content": [part]}])
    assert (caught.value.status, caught.value.code) == (400, "unsupported_content")


def test_what_the_template_says_against_the_messages_is_passed_on() -> None:
    with pytest.raises(RequestError, match=r"fairlead-nano knows the roles .* not judge") as caught:
        nano.encode_chat([{"role": "judge", "content": "42"}])
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].nothing.more }}",
        "{{ 1 // 0 }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_template_that_fails_or_breaks_out_is_refused(
    write_model: Callable[..., Path], template: str
) -> None:
    tokenizer = with_template(write_model, template)
    with pytest.raises(RequestError, match="chat template of this model refuses"):
        tokenizer.encode_chat(CHATS[0])


def test_a_model_without_a_template_says_what_to_do(write_model: Callable[..., Path]) -> None:
    tokenizer = Tokenizer.load(str(write_model("byte-level")))
    assert not tokenizer.has_chat_template
    with pytest.raises(RequestError, match="no chat template; use /v1/completions"):
        tokenizer.encode_chat(CHATS[0])


def test_a_broken_template_is_found_when_the_model_is_loaded(
    write_model: Callable[..., Path],
) -> None:
    with pytest.raises(ModelError, match="broken"):
        with_template(write_model, "{% for %}")


def test_nano_is_shown_tools_and_what_they_brought() -> None:
    called = {"function": {"name": "f", "arguments": {"a": 1}}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "So", "tool_calls": [called, called]},
        {"role": "tool", "content": "42"},
    ]
    shown = nano.raw_text(nano.encode_chat(messages, tools=[{"name": "f"}]))
    assert shown.startswith('<|begin|><|system|>These functions can be called:\n<tools>\n{"name"')
    call = '\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    assert f"<|assistant|>So{call}{call}<|end|>" in shown
    assert shown.endswith("<|user|><tool_response>\n42\n</tool_response><|end|><|assistant|>")
