"""A process with one check in it: `python -m fairlead.checks.child`.

It is told on its standard input what to make, and then one call after the other, each four bytes of
length and MessagePack; it answers each on what was its standard output. It ends with its input.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import queue
import sys
import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from fairlead.checks.making import BrokenError, make, verdict
from fairlead.checks.protocol import Check, CheckedCall, Verdict


class Order(msgspec.Struct):
    """What to make."""

    use: str
    params: dict[str, Any]
    path: list[str]
    """Where the gateway finds modules."""


class Said(msgspec.Struct):
    """The answer to an order or a call."""

    verdict: Verdict | None = None
    broken: str = ""
    """Why there is none; to an order, why nothing was made."""


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # Whatever a library prints must not be taken for an answer.
    came: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(came,), daemon=True).start()
    order = msgspec.msgpack.decode(came.get(), type=Order)
    sys.path[:] = order.path
    try:
        check = make(order.use, order.params)
    except Exception as error:
        _write(answers, Said(broken=f"{type(error).__name__}: {error}"))
        sys.exit(2)
    _write(answers, Said())
    while True:
        call = msgspec.msgpack.decode(came.get(), type=CheckedCall)
        _write(answers, _ask(check, call))


def _ask(check: Check, call: CheckedCall) -> Said:
    try:
        found = check.check(call)
        if inspect.isawaitable(found):
            found = asyncio.run(_wait(found))
        return Said(verdict(found))
    except BrokenError as error:
        return Said(broken=str(error))
    except Exception as error:
        # Its name alone: its message may quote the call.
        return Said(broken=type(error).__name__)


async def _wait(found: Any) -> Verdict:
    said: Verdict = await found
    return said


def _read(came: queue.SimpleQueue[bytes]) -> None:
    """Ends the process with its input, even in the middle of a check."""
    with os.fdopen(0, "rb") as source:
        while len(head := source.read(4)) == 4:
            came.put(source.read(int.from_bytes(head, "big")))
    os._exit(0)


def _write(answers: int, said: Said | Mapping[str, Any]) -> None:
    data = msgspec.msgpack.encode(said)
    whole = memoryview(len(data).to_bytes(4, "big") + data)
    while whole:
        whole = whole[os.write(answers, whole) :]


if __name__ == "__main__":
    main()
