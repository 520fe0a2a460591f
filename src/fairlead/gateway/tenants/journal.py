"""Calls under way in a file of shared memory, which outlives the process: kill -9 loses no token.

A call has a slot of 512 bytes: what is known when it begins, and counters that are written as
tokens go out, in a third of a microsecond. Whoever opens the file next finds the calls of a gateway
that died, with what their clients had been sent.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from pathlib import Path

import msgspec

from fairlead.model import ConfigError
from fairlead.store.call_record import CANCELLED, FAILED, FINISHED, LOST, CallRecord

SLOT_BYTES = 512
FIRST_SLOTS = 1024
MAX_FILES = 64
"""Gateways that may share one folder."""
MAX_MODEL_CHARS = 128
_HEAD = struct.Struct("=BxxxHxxqqqd")  # state, bytes of what follows, prompt, cached, output, ended
_STATE = struct.Struct("=B")
_COUNTS = struct.Struct("=qqqd")
_COUNTS_AT = 8
_OUTPUT = struct.Struct("=q")
_OUTPUT_AT = _COUNTS_AT + 16
FREE, OPEN = 0, 1
OUTCOMES = {OPEN: LOST, 2: FINISHED, 3: CANCELLED, 4: FAILED}
"""By state."""
_STATES = {outcome: state for state, outcome in OUTCOMES.items()}


class _About(msgspec.Struct, array_like=True):
    """What never changes of a call."""

    id: str
    tenant: str
    key_id: str
    model: str
    tier: str


class Journal:
    """The file of one gateway."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigError` where no file can be had there."""
        self.left: list[CallRecord] = []
        """Calls that dead gateways left, to be written to the ledger; then `forget_left`."""
        self._left_files: list[tuple[Path, int]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._take_file(path)
            os.truncate(self._file, FIRST_SLOTS * SLOT_BYTES)
            self._map = mmap.mmap(self._file, FIRST_SLOTS * SLOT_BYTES)
        except OSError as error:
            raise ConfigError(f"cannot keep a journal at {path}: {error.strerror}") from error
        self._free = list(range(FIRST_SLOTS - 1, -1, -1))

    def _take_file(self, path: Path) -> int:
        """One that no living gateway has; the others' that have died are read."""
        mine: tuple[Path, int] | None = None
        for i in range(MAX_FILES):
            name = path.with_name(f"{path.name}.{i}")
            if mine is not None and not name.exists():
                continue
            file = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            left = _read(file)
            self.left += left
            if left or mine is not None:
                self._left_files.append((name, file))
            else:
                mine = (name, file)
        if mine is None:
            raise ConfigError(
                f"{MAX_FILES} gateways have their journals at {path}.*; give this one another place"
            )
        self._name = mine[0]
        return mine[1]

    def forget_left(self) -> None:
        """What was left is in the ledger now."""
        for name, file in self._left_files:
            name.unlink(missing_ok=True)
            os.close(file)
        self._left_files.clear()
        self.left.clear()

    def begin(
        self, id: str, tenant: str, key_id: str, model: str, tier: str, prompt: int, now_s: float
    ) -> int:
        """The slot of a call that begins."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        about = _About(id, tenant, key_id, model[:MAX_MODEL_CHARS], tier)
        data = msgspec.msgpack.encode(about)
        assert len(data) <= SLOT_BYTES - _HEAD.size, f"{len(data)} bytes do not fit into a slot"
        start = slot * SLOT_BYTES
        self._map[start + _HEAD.size : start + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._map, start, FREE, len(data), prompt, 0, 0, now_s)
        _STATE.pack_into(self._map, start, OPEN)
        return slot

    def sent(self, slot: int, output_tokens: int) -> None:
        """So many tokens have gone out to the client, or are about to."""
        _OUTPUT.pack_into(self._map, slot * SLOT_BYTES + _OUTPUT_AT, output_tokens)

    def end(self, slot: int, call: CallRecord) -> None:
        """It has ended, and the ledger does not know yet."""
        counts = (call.prompt_tokens, call.cached_tokens, call.output_tokens, call.ended_s)
        _COUNTS.pack_into(self._map, slot * SLOT_BYTES + _COUNTS_AT, *counts)
        _STATE.pack_into(self._map, slot * SLOT_BYTES, _STATES[call.outcome])

    def free(self, slot: int) -> None:
        """The ledger knows, or never has to."""
        _STATE.pack_into(self._map, slot * SLOT_BYTES, FREE)
        self._free.append(slot)

    def close(self) -> None:
        """Leaves nothing behind, unless something is left in it."""
        empty = not _read(self._file)
        self._map.close()
        if empty:
            self._name.unlink(missing_ok=True)
        os.close(self._file)
        for _, file in self._left_files:
            os.close(file)

    def _grow(self) -> None:
        n = len(self._map) // SLOT_BYTES
        self._map.resize(2 * n * SLOT_BYTES)
        self._free = list(range(2 * n - 1, n - 1, -1))


def _read(file: int) -> list[CallRecord]:
    """The calls that are in it."""
    data = os.pread(file, os.fstat(file).st_size, 0)
    found = []
    for start in range(0, len(data) - SLOT_BYTES + 1, SLOT_BYTES):
        state, size, prompt, cached, output, at_s = _HEAD.unpack_from(data, start)
        if state in OUTCOMES:
            text = data[start + _HEAD.size : start + _HEAD.size + size]
            found.append(_record(state, text, prompt, cached, output, at_s))
    return [call for call in found if call is not None]


def _record(
    state: int, text: bytes, prompt: int, cached: int, output: int, at_s: float
) -> CallRecord | None:
    if state == OPEN and not output:
        return None  # Nothing of it went out: nobody owes anything.
    try:
        about = msgspec.msgpack.decode(text, type=_About)
    except msgspec.DecodeError:
        return None  # Torn.
    names = (about.id, about.tenant, about.key_id, about.model, about.tier)
    return CallRecord(*names, OUTCOMES[state], at_s, prompt, cached, output)
