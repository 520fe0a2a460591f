"""What runs the steps that an instance plans: a model, or a stand-in for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from typing import Protocol

from fairlead.instance.sequence import Sequence
from fairlead.model import FinishReason, RequestId, Row, Sampling

Place = Callable[[int], memoryview]
"""Gives memory for so many bytes, to write to."""


class Logprob(Protocol):
    @property
    def logprob(self) -> float:
        """Natural logarithm of the drawn token's probability."""
        ...

    @property
    def top(self) -> Seq[tuple[int, float]]:
        """The likeliest tokens as (id, logprob), best first."""
        ...


class Output(Protocol):
    """What one iteration brought."""

    @property
    def tokens(self) -> Mapping[RequestId, int]:
        """The new token of every row with `samples`."""
        ...

    @property
    def stopped(self) -> Mapping[RequestId, FinishReason]:
        """Sequences whose new token is their last: the end-of-sequence token or a stop token. It
        counts as produced, and its text is not shown."""
        ...

    @property
    def logprobs(self) -> Mapping[RequestId, Logprob]:
        """For sequences that asked for them."""
        ...

    @property
    def vectors(self) -> Mapping[RequestId, bytes]:
        """Of sequences that embed, with their token: float32, little-endian."""
        ...


class Executor(Protocol):
    """Runs one iteration at a time. Its caller keeps the rows' sequences as they are meanwhile."""

    @property
    def embeds(self) -> bool:
        """Whether it has vectors for prompts."""
        ...

    async def run(
        self, rows: Seq[Row], sequences: Mapping[RequestId, Sequence], predicted_s: float
    ) -> Output:
        """Computes the rows; `predicted_s` is what the instance's latency model expects of it."""
        ...

    @property
    def moves_kv(self) -> bool:
        """Whether KV can be exported and imported: without, nothing is handed off."""
        ...

    async def export_kv(self, blocks: Seq[int], start: int, end: int, place: Place) -> memoryview:
        """The KV of a sequence's tokens `start` to `end`, which lie in `blocks`, in memory that
        `place` gave. Between steps. Empty where the engine has no KV."""
        ...

    async def import_kv(self, blocks: Seq[int], image: memoryview) -> None:
        """Puts exported KV into a sequence's blocks. Between steps; nothing looks at the image
        afterwards. Raises `ProtocolError` where it does not fit."""
        ...

    def objection(self, sampling: Sampling) -> str:
        """Why a request that is to be sampled like that cannot be served; empty where it can."""
        ...

    def forget(self, request_id: RequestId) -> None:
        """The sequence has left; what was kept for it can go. Unknown ids are fine."""
        ...

    def rest(self) -> None:
        """Called before the worker waits for work: the next step does not follow on the last."""
        ...

    def close(self) -> None:
        """Called once, when no step runs any more."""
        ...
