"""Calls of tools in a model's text, found while it comes.

What comes out is a function of the text so far, however it was cut. Nothing of the text is lost:
what looks like a call and is none stays text, as the model wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto

from fairlead.text.assembler import possible_start
from fairlead.text.call_format import SHAPES, CallFormat


@dataclass(frozen=True, slots=True)
class Said:
    """Text for whoever reads the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A call has begun."""

    index: int
    """Counts the calls of an answer."""
    name: str


@dataclass(frozen=True, slots=True)
class Given:
    """The next part of a call's arguments, as JSON."""

    index: int
    text: str


Piece = Said | Called | Given


class _At(Enum):
    TEXT = auto()
    HEAD = auto()
    """In what may be a call; its name is not known yet."""
    WHOLE = auto()
    """The same, where it is written in an order that can be read at its end only."""
    ARGUMENTS = auto()
    TAIL = auto()
    """Behind the arguments, before the end of the call."""
    REST = auto()
    """Where no call can be any more."""


MAX_HEAD_CHARS = 1024
"""A call whose arguments have not begun by then is read at its end."""
_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_FIRST_KEY = re.compile(r'\s*\{\s*"((?:[^"\\]|\\.)*)"')
_KEYS = ("name", "arguments", "parameters", "type")
_OUTSIDE = re.compile(r'["{}\[\]]')
_INSIDE = re.compile(r'["\\]')
_decoder = json.JSONDecoder()


class CallReader:
    """Takes the text of one answer, and gives what its client is to see."""

    def __init__(
        self, format: CallFormat, names: Collection[str], *, only_one: bool = False
    ) -> None:
        """`names` are those of the tools that were offered: nothing else is called. With
        `only_one` what follows the first call is dropped."""
        self.n_calls = 0
        self._shape = SHAPES[format]
        self._marked = format is CallFormat.HERMES
        self._names = names
        self._only_one = only_one
        self._at = _At.TEXT
        self._held = ""
        self._before = ""
        """What stood before the call that is being read, for when it turns out to be none."""
        self._depth = 0
        self._in_string = False
        self._pieces: list[Piece] = []
        self._read: dict[_At, Callable[[], bool]] = {
            _At.TEXT: self._text if self._marked else self._beginning,
            _At.HEAD: self._head,
            _At.WHOLE: self._whole_when_ended,
            _At.ARGUMENTS: self._arguments,
            _At.TAIL: self._tail,
            _At.REST: self._rest,
        }

    def feed(self, text: str, *, plain: bool = False) -> list[Piece]:
        """What is certain with this text. `plain`: there is no call in it, whatever it looks
        like."""
        if plain and self._at is _At.TEXT:
            self._say(self._take(len(self._held)) + text)
            return self._out()
        self._held += text
        while self._held and self._read[self._at]():
            pass
        return self._out()

    def flush(self) -> list[Piece]:
        """What was held back, at the end of the answer."""
        while self._at in (_At.HEAD, _At.WHOLE):
            if not self._take_whole(self._held):
                self._is_none()
            while self._held and self._read[self._at]():
                pass
        if self._at is _At.TEXT:
            self._say(self._take(len(self._held)))
        return self._out()

    # ------------------------------------------------------ one state each; whether to look again

    def _text(self) -> bool:
        """Between calls that are marked."""
        mark = self._shape.begins
        start = self._held.find(mark)
        if start >= 0:
            self._say(self._take(len(self._held[:start].rstrip())))
            self._before = self._take(self._held.index(mark) + len(mark))
            self._at = _At.HEAD
            return True
        certain = self._held[: possible_start(self._held, mark)].rstrip()
        self._say(self._take(len(certain)))
        return False

    def _beginning(self) -> bool:
        """Of an answer that is either a call or text; or behind a call."""
        rest = self._held.lstrip("; \t\r\n") if self.n_calls else self._held.lstrip()
        if not rest:
            return False
        if rest[0] == "{":
            self._before = self._take(len(self._held) - len(rest))
            self._at = _At.HEAD
        else:
            self._at = _At.REST
        return True

    def _head(self) -> bool:
        head = _HEAD.match(self._held)
        if head is not None:
            if _unquoted(head[1]) not in self._names:
                self._is_none()
                return True
            self._begin(_unquoted(head[1]))
            self._take(head.end())
            self._at = _At.ARGUMENTS
            return True
        key = _FIRST_KEY.match(self._held)
        begun = self._held.lstrip()
        if (begun and begun[0] != "{") or (key is not None and key[1] not in _KEYS):
            self._is_none()
            return True
        if len(self._held) > MAX_HEAD_CHARS or (self._marked and self._shape.ends in self._held):
            self._at = _At.WHOLE
            return True
        return False

    def _whole_when_ended(self) -> bool:
        # Unmarked calls have ended when the answer has.
        end = self._held.find(self._shape.ends) if self._marked else -1
        if end < 0:
            return False
        if not self._take_whole(self._held[:end]):
            self._is_none()
        return True

    def _arguments(self) -> bool:
        """Up to the bracket that closes them."""
        end = self._end_of_arguments()
        if end:
            self._pieces.append(Given(self.n_calls - 1, self._take(end)))
        return self._at is not _At.ARGUMENTS

    def _tail(self) -> bool:
        end = self._held.find(self._shape.ends)
        if end < 0:
            self._take(possible_start(self._held, self._shape.ends))
            return False
        self._take(end + len(self._shape.ends))
        self._at = _At.REST if self._only_one else _At.TEXT
        return True

    def _rest(self) -> bool:
        text = self._take(len(self._held))
        if not (self._only_one and self.n_calls):
            self._say(text)
        return False

    # --------------------------------------------------------------------------------- parts

    def _end_of_arguments(self) -> int:
        """How much of what is held belongs to them; their end changes the state."""
        at, held = 0, self._held
        while True:
            found = (_INSIDE if self._in_string else _OUTSIDE).search(held, at)
            if found is None:
                return len(held)
            at, sign = found.end(), found[0]
            if sign == "\\":
                if at == len(held):
                    return at - 1  # What it escapes has not come: it waits.
                at += 1
            elif sign == '"':
                self._in_string = not self._in_string
            else:
                self._depth += 1 if sign in "{[" else -1
                if self._depth == 0:
                    self._at = _At.TAIL
                    return at

    def _take_whole(self, body: str) -> bool:
        """Reads a call in any order of its fields. False where it is none."""
        skipped = len(body) - len(body.lstrip())
        try:
            call, end = _decoder.raw_decode(body, skipped)
        except (ValueError, RecursionError):
            return False
        found = _name_and_arguments(call)
        if found is None or found[0] not in self._names:
            return False
        name, arguments = found
        self._begin(name)
        self._pieces.append(Given(self.n_calls - 1, arguments))
        self._take(end)
        self._at = _At.TAIL if self._marked else _At.REST if self._only_one else _At.TEXT
        return True

    def _begin(self, name: str) -> None:
        self._pieces.append(Called(self.n_calls, name))
        self.n_calls += 1
        self._before = ""
        self._depth, self._in_string = 0, False

    def _is_none(self) -> None:
        """What was begun as a call is text."""
        self._say(self._before)
        self._before = ""
        self._at = _At.TEXT if self._marked else _At.REST

    def _take(self, n: int) -> str:
        taken, self._held = self._held[:n], self._held[n:]
        return taken

    def _say(self, text: str) -> None:
        """Blanks between calls are nobody's."""
        if text and not (self.n_calls and text.isspace()):
            self._pieces.append(Said(text))

    def _out(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces


def _unquoted(name: str) -> str:
    try:
        return str(json.loads(name))
    except ValueError:
        return ""


def _name_and_arguments(call: object) -> tuple[str, str] | None:
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(arguments, dict):
        return None
    return call["name"], json.dumps(arguments, ensure_ascii=False)
