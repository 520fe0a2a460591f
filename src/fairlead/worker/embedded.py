"""An engine as an executor: a real model in this process, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from fairlead import engine
from fairlead.engine import vllm
from fairlead.instance.sequence import Sequence
from fairlead.model import RequestId, Row, Sampling
from fairlead.worker.executor import Output, Place

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine
    from fairlead.engine.vllm.engine import VllmEngine

T = TypeVar("T")


class Embedded:
    """An `Executor` around an engine. The engine is built, measured and run in one thread, which
    leaves the event loop free while a step computes."""

    def __init__(self, build: Callable[[], Engine | VllmEngine]) -> None:
        """Whatever `build` raises comes out here."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        try:
            self.engine = self.call(build)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    def call(self, work: Callable[[], T]) -> T:
        """Runs `work` in the engine's thread and waits for it; for use before the first step."""
        return self._thread.submit(work).result()

    async def run(
        self, rows: Seq[Row], sequences: Mapping[RequestId, Sequence], predicted_s: float
    ) -> Output:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.engine.run, rows, sequences)

    @property
    def moves_kv(self) -> bool:
        return self.engine.moves_kv

    @property
    def embeds(self) -> bool:
        return self.engine.embeds

    async def export_kv(self, blocks: Seq[int], start: int, end: int, place: Place) -> memoryview:
        engine, held = self.engine, list(blocks)
        return await self._between_steps(
            lambda: engine.write_image(held, end - start, start, place)
        )

    async def import_kv(self, blocks: Seq[int], image: memoryview) -> None:
        held = list(blocks)
        await self._between_steps(lambda: self.engine.import_image(image, held))

    async def _between_steps(self, work: Callable[[], T]) -> T:
        # The engine's thread does one thing after the other: what is asked for later, such as a
        # step of whoever gets these blocks next, sees them as they are then.
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def objection(self, sampling: Sampling) -> str:
        return self.engine.objection(sampling)

    def forget(self, request_id: RequestId) -> None:
        self.engine.forget(request_id)

    def rest(self) -> None:
        """A real engine starts whenever it is asked to."""

    def close(self) -> None:
        # After the step under way, if any.
        self._thread.submit(self.engine.close)
        self._thread.shutdown(wait=False)


def load_embedded(
    model: str,
    *,
    dtype: str,
    device: str,
    threads: int | None,
    block_tokens: int,
    n_blocks: int | None,
    kv_bytes: int | None,
) -> Embedded:
    """The engine, loaded. Raises `ModelError` or `ConfigError` where that cannot be."""
    memory = {} if kv_bytes is None else {"kv_bytes": kv_bytes}
    config = engine.EngineConfig(
        model,
        dtype=dtype,
        device=device,
        threads=threads,
        block_tokens=block_tokens,
        n_blocks=n_blocks,
        **memory,
    )
    return Embedded(lambda: engine.load(config))


def load_vllm(config: vllm.VllmEngineConfig) -> Embedded:
    """vLLM, started. Raises `ModelError` or `ConfigError` where that cannot be."""
    return Embedded(lambda: vllm.load(config))
