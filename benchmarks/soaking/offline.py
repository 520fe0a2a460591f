"""Offline batches under soak: there is always one, and each line of each has to have its answer."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from fairlead.client.batches import ENDED, BatchClient, NoAnswerError
from soaking.call import expected_text
from soaking.fleet import MODEL, Fleet

LOOK_S = 0.5
WINDOW = "24h"
T = TypeVar("T")


class Offline:
    """Submits a batch, waits for it, looks at its answers, and begins anew."""

    def __init__(self, fleet: Fleet, secret: str, key_id: str, seed: int, n_lines: int) -> None:
        self.key_id = key_id
        self.lines = 0
        """Of all batches that have ended."""
        self.tokens: dict[str, int] = {}
        """Output tokens of each line that was answered, by its id in the ledger."""
        self.lost = self.repeated = 0
        self.problems: Counter[str] = Counter()
        self.batches = 0
        self._client = BatchClient(fleet.url, secret)
        self._folder = fleet.folder
        self._seed = seed
        self._n_lines = n_lines
        self._stopping = False

    def stop(self) -> None:
        """The batch that runs is the last."""
        self._stopping = True

    async def run(self) -> None:
        while not self._stopping:
            self.batches += 1
            bodies = self._bodies(self.batches)
            path = self._folder / "lines.jsonl"
            await asyncio.to_thread(_write, path, bodies)
            batch = await self._submit(path, f"soak {self.batches}")
            while batch["status"] not in ENDED:
                await asyncio.sleep(LOOK_S)
                batch = await self._persist(lambda id=batch["id"]: self._client.batch(id))
            await self._check(batch, bodies)

    def _bodies(self, number: int) -> list[dict[str, Any]]:
        rng = Random(f"soak {self._seed} batch {number}")
        return [
            {
                "model": MODEL,
                "prompt": f"line {i} of batch {number}. " * rng.randint(1, 20),
                "max_tokens": rng.randint(10, 200),
                "seed": rng.getrandbits(40),
                "ignore_eos": True,
            }
            for i in range(self._n_lines)
        ]

    async def _submit(self, path: Path, name: str) -> dict[str, Any]:
        """The batch of that name. It may be there though nobody said so: its gateway died before
        it could."""

        def submit() -> dict[str, Any]:
            for batch in self._client.batches(20):
                if (batch["metadata"] or {}).get("name") == name:
                    return batch
            file = self._client.upload(path, lambda n: None)
            return self._client.create(file["id"], "/v1/completions", WINDOW, {"name": name})

        return await self._persist(submit)

    async def _persist(self, ask: Callable[[], T]) -> T:
        """Until a gateway answers."""
        while True:
            try:
                return await asyncio.to_thread(ask)
            except NoAnswerError:
                await asyncio.sleep(LOOK_S)

    async def _check(self, batch: dict[str, Any], bodies: list[dict[str, Any]]) -> None:
        self.lines += len(bodies)
        if batch["status"] != "completed" or batch["error_file_id"]:
            counts = batch["request_counts"]
            self.problems[f"batch ended as {batch['status']}, {counts['failed']} lines failed"] += 1
        if not batch["output_file_id"]:
            self.lost += len(bodies)
            return
        rows = [json.loads(line) for line in await self._download(batch["output_file_id"])]
        seen = Counter(row["custom_id"] for row in rows)
        self.lost += sum(f"c{i}" not in seen for i in range(len(bodies)))
        self.repeated += sum(n - 1 for n in seen.values())
        for row in rows:
            i = int(row["custom_id"][1:])
            answer = row["response"]["body"]
            self.tokens[f"{batch['id']}-{i}"] = answer["usage"]["completion_tokens"]
            due = expected_text(bodies[i]["seed"], bodies[i]["max_tokens"])
            if answer["choices"][0]["text"] != due:
                self.problems["a line of a batch has another text"] += 1

    async def _download(self, file: str) -> list[bytes]:
        def download() -> bytes:
            to = io.BytesIO()
            self._client.download(file, to, lambda n: None)
            return to.getvalue()

        return (await self._persist(download)).splitlines()


def _write(path: Path, bodies: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for i, body in enumerate(bodies):
            row = {"custom_id": f"c{i}", "method": "POST", "url": "/v1/completions", "body": body}
            file.write(json.dumps(row) + "\n")
