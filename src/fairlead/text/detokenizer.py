"""Tokens to text while they come: only complete characters leave, and each of them once."""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Callable, Sequence
from typing import Protocol

from fairlead.text.pieces import Pieces

UNKNOWN_CHARACTER = "�"
MAX_HELD_TOKENS = 8
"""A character takes at most four bytes, and so four tokens; what stays broken longer is garbage."""


class Detokenizer(Protocol):
    """The text of one growing sequence of tokens."""

    def text(self, token_ids: Sequence[int]) -> str:
        """What became certain with these tokens, all but incomplete characters."""

    def rest(self) -> str:
        """What was held back, now that nothing follows."""


class PieceDetokenizer:
    """Joins the bytes of the tokens; holds back at most three bytes."""

    __slots__ = ("_pending", "_strips_space", "_table")

    def __init__(self, pieces: Pieces) -> None:
        self._table = pieces.table
        self._strips_space = pieces.strips_space
        self._pending = b""

    def text(self, token_ids: Sequence[int]) -> str:
        table = self._table
        try:
            data = b"".join([table[token_id] for token_id in token_ids])
        except IndexError:  # a model's last rows may have no token
            data = b"".join([table[i] for i in token_ids if i < len(table)])
        if self._pending:
            data = self._pending + data
        text, n_used = utf_8_decode(data, "replace", False)
        self._pending = data[n_used:]
        return self._without_first_space(text) if self._strips_space and text else text

    def rest(self) -> str:
        text = self._pending.decode("utf-8", "replace")
        self._pending = b""
        return text

    def _without_first_space(self, text: str) -> str:
        self._strips_space = False
        return text.removeprefix(" ")


class WindowDetokenizer:
    """Decodes each token behind the few before it, for tokenizers whose tokens depend on those."""

    __slots__ = ("_before", "_decode", "_n_before", "_window")

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        """The tokens of the last text that left, and those since."""
        self._n_before = 0
        self._before = ""
        """The text of the first `_n_before` tokens of the window, which left already."""

    def text(self, token_ids: Sequence[int]) -> str:
        return "".join([self._next(token_id) for token_id in token_ids])

    def rest(self) -> str:
        return self._leave(self._decode(self._window))

    def _next(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._decode(self._window)
        n_held = len(self._window) - self._n_before
        if text.endswith(UNKNOWN_CHARACTER) and n_held < MAX_HELD_TOKENS:
            return ""
        if len(text) <= len(self._before) and n_held < MAX_HELD_TOKENS:
            return ""
        return self._leave(text)

    def _leave(self, text: str) -> str:
        new = text[len(self._before) :]
        self._window = self._window[self._n_before :]
        self._n_before = len(self._window)
        self._before = self._decode(self._window)
        return new
