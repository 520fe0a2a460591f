"""Chat templates: messages to the text of a prompt, as the model's makers wrote it down.

A template is code from whoever made the model, so it runs in Jinja's sandbox, with the same
globals, filters and tags that `transformers` gives it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.sandbox
from jinja2.nodes import Node
from jinja2.parser import Parser

from fairlead.model import ModelError, RequestError
from fairlead.text.call_format import (
    PROBE_MESSAGES,
    PROBE_TEXT,
    PROBE_TOOL,
    TEXT_MESSAGES,
    CallFormat,
    format_of,
)
from fairlead.text.folder import read_json

Messages = Sequence[Mapping[str, Any]]


class ChatTemplate:
    """Renders the messages of a chat into a prompt."""

    def __init__(self, source: str, tool_source: str | None, special: Mapping[str, str]) -> None:
        """`tool_source` is used instead of `source` where there are tools. Raises `ModelError`
        where either is no template."""
        self._plain = _compiled(source)
        self._with_tools = self._plain if tool_source is None else _compiled(tool_source)
        self._special = dict(special)
        self.takes_tools = "tools" in _variables_of(source if tool_source is None else tool_source)
        """Whether it writes down the tools that it is given."""

    @cached_property
    def call_format(self) -> CallFormat | None:
        """How it writes a call that was made before, and so how its model writes one; None where
        it takes no tools, or writes calls in a way that is not known here."""
        if not self.takes_tools:
            return None
        try:
            call, text = (self._probe(messages) for messages in (PROBE_MESSAGES, TEXT_MESSAGES))
        except RequestError:
            return None
        before, found, behind = text.rpartition(PROBE_TEXT)
        if not found or not call.startswith(before) or not call.endswith(behind):
            return None
        return format_of(call[len(before) : len(call) - len(behind)])

    def _probe(self, messages: Messages) -> str:
        tools = [PROBE_TOOL]
        return self.render(messages, tools=tools, add_generation_prompt=False, variables={})

    def render(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
        variables: Mapping[str, Any],
    ) -> str:
        """Raises `RequestError` where the template refuses the messages."""
        template = self._with_tools if tools else self._plain
        context = {
            **self._special,
            **variables,
            "messages": [_plain_message(message) for message in messages],
            "tools": tools or None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return template.render(context)
        except Exception as error:  # the code of the template may fail in any way
            raise RequestError(
                f"the chat template of this model refuses these messages: {error}; check their"
                " roles, order and content",
                param="messages",
                code="chat_template_refused",
            ) from error


def chat_template_in(folder: Path, special: Mapping[str, str]) -> ChatTemplate | None:
    """The template of the model in `folder`; None where it has none."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return ChatTemplate(path.read_text(encoding="utf-8"), None, special)
    found = read_json(folder, "chat_template.json").get("chat_template")
    if found is None:
        found = read_json(folder, "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        named = {entry["name"]: entry["template"] for entry in found}
        found = named.get("default")
        return None if found is None else ChatTemplate(found, named.get("tool_use"), special)
    return None if found is None else ChatTemplate(str(found), None, special)


def _plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with its text parts joined; most templates know content as one string only."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return dict(message)
    return {**message, "content": "\n".join([_text_of_part(part) for part in content])}


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if kind in ("text", "input_text") and isinstance(part.get("text"), str):
        return str(part["text"])
    raise RequestError(
        f"a content part of type {kind!r} cannot be read by this model; send parts of type 'text'",
        param="messages",
        code="unsupported_content",
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationTag, jinja2.ext.loopcontrols],
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _variables_of(source: str) -> set[str]:
    """What a template wants to be given."""
    return set(jinja2.meta.find_undeclared_variables(_environment().parse(source)))


def _compiled(source: str) -> jinja2.Template:
    try:
        return _environment().from_string(source)
    except jinja2.TemplateError as error:
        raise ModelError(
            f"the chat template of the model is broken: {error}; repair chat_template.jinja or"
            " the entry of tokenizer_config.json"
        ) from error


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks what the model says, for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, which a prompt is not."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
