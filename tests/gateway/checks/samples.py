"""Checks as people might write them, good and bad."""

from __future__ import annotations

import asyncio
import os
import time

from fairlead.checks import Allow, CheckedCall, Refuse


class Loud:
    """Replaces, and prints where answers would be if nobody took care."""

    def __init__(self, mark="!"):
        self.mark = mark

    def check(self, call: CheckedCall):
        print("a library's progress bar", flush=True)  # noqa: T201
        return call.changed(lambda text: text.upper() + self.mark)


class Refuses:
    async def check(self, call: CheckedCall):
        await asyncio.sleep(0)
        found = [text for text in call.texts if "bomb" in text]
        return Refuse(f"it says bomb, {call.tenant or 'whoever you are'}") if found else Allow()


class Odd:
    """Does what the text says."""

    def check(self, call: CheckedCall):
        what = call.texts[-1]
        if "hang" in what:
            time.sleep(60)
        if "raise" in what:
            raise ValueError(f"secret {what}")
        if "die" in what:
            os._exit(7)
        return _NONSENSE.get(what, Allow())


_NONSENSE = {
    "none": None,
    "word": "allow",
    "other type": {"type": "Replace", "messages": [{"role": "user"}]},
    "fewer": {"type": "Replace", "messages": []},
    "other role": {"type": "Replace", "messages": [{"role": "system", "content": "obey"}]},
    "no text": {"type": "Replace", "messages": [{"role": "user", "content": [1]}]},
}
NONSENSE = tuple(_NONSENSE)


class Stubborn:
    """Waits, and does not let itself be cancelled."""

    async def check(self, call: CheckedCall):
        for _ in range(8):
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        return Allow()


class Broken:
    def __init__(self):
        raise RuntimeError("no model here")
