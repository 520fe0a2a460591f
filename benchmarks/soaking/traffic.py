"""Clients that never rest: streams, chats, whole answers, several choices, and some that leave."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from fairlead.store.database import Database
from fairlead.store.tenants import Tenants
from soaking.call import Call, End, play, tokenizer
from soaking.fleet import Fleet

TENANTS: dict[str, dict[str, Any]] = {
    "ann": {"weight": 2.0, "share_prefixes": True},
    "ben": {},
    "cy": {"requests_per_minute": 180},
    "dan": {"max_concurrent": 14, "tokens_per_minute": 300_000},
    "night": {},
}
"""`night` has the batches; of the others each client is one."""
CALLERS = ("ann", "ben", "cy", "dan")
LENGTHS = range(40, 1040)
"""Of prompts, in bytes."""
OUTPUT_MEDIAN, OUTPUT_SIGMA, OUTPUT_MAX = 100, 0.8, 400
RETRY_S = 1.0
"""After a call that was rejected or cut."""
THINK_S = 0.05


class Keys:
    """Keys of all tenants; each is used once with every length of prompt, then there is another."""

    def __init__(self, database: Path, seed: int) -> None:
        self._tenants = Tenants(Database(str(database)))
        self._seed = seed
        self._made = 0
        self._left: dict[str, tuple[str, str, list[int]]] = {}
        self._lock = asyncio.Lock()
        for name, rules in TENANTS.items():
            self._tenants.put(name, rules, time.time())

    def make(self, tenant: str) -> tuple[str, str]:
        """A new key, and its id."""
        secret, key = self._tenants.create_key(tenant, time.time())
        return secret, key.id

    async def take(self, tenant: str) -> tuple[str, str, int]:
        """A key, its id, and a length that no other call of this key has."""
        async with self._lock:
            if not self._left.get(tenant, ("", "", []))[2]:
                secret, id = await asyncio.to_thread(self.make, tenant)
                lengths = list(LENGTHS)
                self._made += 1
                Random(f"soak {self._seed} lengths {self._made}").shuffle(lengths)
                self._left[tenant] = (secret, id, lengths)
            secret, id, lengths = self._left[tenant]
            return secret, id, lengths.pop()


class Traffic:
    """All clients, and what became of their calls."""

    def __init__(self, fleet: Fleet, keys: Keys, seed: int) -> None:
        self.calls: list[Call] = []
        """Those that have ended."""
        self.seats = 0
        """Answers under way; a call may have several."""
        self.problems: Counter[str] = Counter()
        self._fleet = fleet
        self._keys = keys
        self._seed = seed
        self._stopping = False

    def stop(self) -> None:
        """No call is begun any more."""
        self._stopping = True

    async def client(self, number: int) -> None:
        """One call after the other, until `stop`."""
        rng = Random(f"soak {self._seed} client {number}")
        tenant = CALLERS[number % len(CALLERS)]
        await asyncio.sleep(rng.random() * 2)
        while not self._stopping:
            secret, key_id, length = await self._keys.take(tenant)
            call = draw(rng, tenant, key_id, length)
            seats = call.body.get("n") or 1
            self.seats += seats
            try:
                await play(call, self._fleet.port, secret)
            finally:
                self.seats -= seats
            self._keep(call)
            await asyncio.sleep(RETRY_S if call.end in (End.REJECTED, End.CUT) else THINK_S)

    def _keep(self, call: Call) -> None:
        if call.end is End.CUT and not self._may_be_cut(call):
            call.end = End.FAILED
        for problem in call.problems():
            self.problems[problem] += 1
        if call.end is End.FAILED:
            self.problems[f"{'stream' if call.stream else 'call'} failed: {call.said}"] += 1
        self.calls.append(call)

    def _may_be_cut(self, call: Call) -> bool:
        """No gateway that lives hangs up on anybody."""
        deaths = [at_s for at_s, who in self._fleet.deaths if who == "gateway"]
        if not deaths:
            return False
        last = deaths[-1]
        return last >= call.begun_s or self._fleet.lives_s[-1] < last or self._is_starting(call)

    def _is_starting(self, call: Call) -> bool:
        """It came before the new gateway listened."""
        return "refused" in call.said.lower() and not call.got_tokens


def draw(rng: Random, tenant: str, key_id: str, length: int) -> Call:
    """A call out of a seeded mix."""
    kind = rng.choices(("stream", "chat", "whole", "choices", "leaves"), (50, 20, 12, 6, 12))[0]
    tokens = min(round(OUTPUT_MEDIAN * rng.lognormvariate(0.0, OUTPUT_SIGMA)) + 4, OUTPUT_MAX)
    text = f"{tenant}: " + "the rope runs through the ring and holds the ship. " * 50
    body: dict[str, Any] = {"max_tokens": tokens, "seed": rng.getrandbits(40)}
    chat = kind == "chat"
    if chat:
        # Longer than any prompt that is not a chat, so that none has as many tokens.
        messages = [{"role": "user", "content": text[: length + LENGTHS.stop]}]
        body["messages"] = messages
        prompt_tokens = len(tokenizer().encode_chat(messages))
    else:
        body["prompt"] = text[:length]
        prompt_tokens = len(tokenizer().encode(text[:length]))
    if kind != "whole":
        body["stream"] = True
    if kind != "whole" and (chat or rng.random() < 0.3):
        body["stream_options"] = {"include_usage": True}
    if rng.random() < 0.3:
        body["fairlead"] = {"positions": True}
    if kind == "choices":
        body["n"] = 2
    call = Call(tenant, key_id, prompt_tokens, body, chat)
    if kind == "leaves":
        call.leaves_after = rng.randint(1, tokens)
        call.says_so = rng.random() < 0.5
    return call
