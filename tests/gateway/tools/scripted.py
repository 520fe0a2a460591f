"""A worker that says what a test tells it, a few characters a token."""

from __future__ import annotations

from typing import Any

from benchmarks.fake_worker import FakeWorker, Speech

from fairlead.model import FinishReason
from fairlead.worker import wire

WEATHER = {
    "name": "get_weather",
    "description": "What it is like there.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
TIME = {"name": "get_time"}
TOOLS = [{"type": "function", "function": function} for function in (WEATHER, TIME)]
PARIS = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
ROME = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'


class ScriptedWorker(FakeWorker):
    """Every answer is the script, from wherever it goes on."""

    def __init__(self, script: str, n_chars: int = 3, **settings: Any) -> None:
        super().__init__(**{"pace_s": 0} | settings)
        self.script = script
        self.n_chars = n_chars

    def _speak(self, speech: Speech) -> tuple[wire.Row, FinishReason | None]:
        request, position = speech.request, speech.position
        text = self.script[position * self.n_chars : (position + 1) * self.n_chars]
        speech.position += 1
        over = speech.position * self.n_chars >= len(self.script)
        reason = FinishReason.STOP if over else None
        if not over and speech.position >= request.max_tokens:
            reason = FinishReason.LENGTH
        token = ord(text[0])
        logprobs: list[object] | None = None
        if request.sampling.logprobs is not None:
            logprobs = [[-0.5, text, []]]
        row = wire.Row(request.id, speech.submit.attempt, position, [token], text, logprobs)
        return row, reason
