"""Calls of tools that a server tells apart from its text, written as its model would write them.

So every answer is text from here on, whoever gave it: what was begun here another engine can go on
with, and the gateway finds calls in one way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from fairlead.text.call_format import SHAPES, CallFormat
from fairlead.worker.opaque.chunks import CallDelta
from fairlead.worker.opaque.errors import ServerError, What


class CallWriter:
    """The calls of one answer, which come in parts."""

    def __init__(self, format: CallFormat) -> None:
        self._shape = SHAPES[format]
        self._index: int | None = None
        """Of the call that is being written."""
        self._last = -1
        self._name = ""
        self._has_arguments = False

    def write(self, deltas: Sequence[CallDelta], over: bool) -> str:
        """The text of what came; `over`: nothing follows. Raises `ServerError` where the server
        goes back to a call that it had left."""
        text = "".join([self._part(delta) for delta in deltas])
        return text + self.close() if over else text

    def _part(self, delta: CallDelta) -> str:
        text = ""
        if delta.index != self._index:
            if delta.index <= self._last:
                raise ServerError(What.ILL, "it writes several calls of tools at once")
            text = self.close() + (self._shape.separator if self._last >= 0 else "")
            self._index = self._last = delta.index
        function = delta.function
        if function is not None and function.name and not self._name:
            self._name = function.name
            text += self._shape.begin(json.dumps(self._name))
        if function is not None and function.arguments and self._name:
            self._has_arguments = True
            text += function.arguments
        return text

    def close(self) -> str:
        """The rest of the call that is being written; empty where there is none."""
        if self._index is None:
            return ""
        closed = ("" if self._has_arguments else "{}") + self._shape.closing if self._name else ""
        self._index, self._name, self._has_arguments = None, "", False
        return closed
