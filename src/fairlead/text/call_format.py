"""How a model writes calls of tools into its answer.

Which way is a model's own is read off its chat template: what the template makes of a call that was
made before is what the model was trained to write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any


class CallFormat(Enum):
    """The ways that are known here."""

    HERMES = "hermes"
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, any number, with text around
    them: Hermes, Qwen 2.5, Qwen 3."""
    LLAMA_JSON = "llama-json"
    """`{"name": ..., "parameters": {...}}` and nothing else: Llama 3.1 to 3.3."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The text around a call's name and arguments, to the letter."""

    opening: str
    between: str
    closing: str
    separator: str
    """Between two calls."""
    arguments: str
    """The field that holds them."""
    begins: str
    """The mark before a call; empty where there is none."""
    ends: str

    def begin(self, quoted_name: str) -> str:
        """All before the arguments."""
        return f"{self.opening}{quoted_name}{self.between}"


SHAPES = {
    CallFormat.HERMES: Shape(
        opening='<tool_call>\n{"name": ',
        between=', "arguments": ',
        closing="}\n</tool_call>",
        separator="\n",
        arguments="arguments",
        begins="<tool_call>",
        ends="</tool_call>",
    ),
    CallFormat.LLAMA_JSON: Shape(
        opening='{"name": ',
        between=', "parameters": ',
        closing="}",
        separator="; ",
        arguments="parameters",
        begins="",
        ends="}",
    ),
}
MARKS = frozenset({"<tool_call>", "</tool_call>"})
"""Text, also where a tokenizer calls them special."""

PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_name",
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {"probe_key": {"type": "integer"}}},
    },
}
_ASKED = {"role": "user", "content": "probe"}
_CALL = {
    "id": "probe0000",
    "type": "function",
    "function": {"name": "probe_name", "arguments": {"probe_key": 1}},
}
PROBE_MESSAGES: list[dict[str, Any]] = [
    _ASKED,
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
]
PROBE_TEXT = "probe_text"
TEXT_MESSAGES: list[dict[str, Any]] = [_ASKED, {"role": "assistant", "content": PROBE_TEXT}]
"""The same with text in the call's place."""


def format_of(written: str) -> CallFormat | None:
    """The format of the call of `PROBE_MESSAGES`, as a template wrote it where the text of an
    answer goes; None where it is none of those known."""
    for known, pattern in _WRITTEN.items():
        if pattern.fullmatch(written.strip()):
            return known
    return None


_NAME = r'"name":\s*"probe_name"'


def _call(arguments: str) -> str:
    own = rf'"{arguments}":\s*\{{"probe_key":\s*1\}}'
    return rf"\{{\s*(?:{_NAME},\s*{own}|{own},\s*{_NAME})\s*\}}"


_WRITTEN = {
    CallFormat.HERMES: re.compile(rf"<tool_call>\s*{_call('arguments')}\s*</tool_call>"),
    CallFormat.LLAMA_JSON: re.compile(_call("parameters")),
}
