"""Memory that two workers on one machine see: KV goes through it, and never through a socket.

The source makes it and tells the target where; the target shows by its answer whether it sees it.
It has no name in any file system: it is gone when the last process that holds it is, however that
process ends. Linux only; elsewhere, or in containers that do not see each other's processes, the
target sees nothing and KV goes over the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import secrets

import msgspec

LEAST_BYTES = 8 << 20
"""Less than this is not worth a memory of its own: pages that are new cost about as much as the
connection saves, see `benchmarks/shared_memory.py`."""
MARGIN_BYTES = 4096
"""For what an image holds beside KV."""
LINUX = hasattr(os, "memfd_create")


class Offer(msgspec.Struct, array_like=True, frozen=True):
    """Where the memory is: open file `fd` of process `pid`."""

    pid: int
    fd: int
    name: str
    """Drawn at random, so that nothing else is taken for it: process numbers mean something else
    in another container."""
    n_bytes: int


class Own:
    """Memory that nobody else sees. Holds one image at a time, and keeps its pages for the next:
    new ones would cost more than what is written to them."""

    offer: Offer | None = None

    def __init__(self) -> None:
        self._memory = bytearray()

    def place(self, n_bytes: int) -> memoryview:
        """Memory for so many bytes."""
        if len(self._memory) < n_bytes:
            self._memory = bytearray(n_bytes)
        return memoryview(self._memory)[:n_bytes]

    def holds(self, image: memoryview) -> bool:
        """Whether the target sees the image."""
        return False

    def seen(self, is_seen: bool) -> None:
        """What the target says."""

    def close(self) -> None:
        """It goes by itself."""


class Lent(Own):
    """The source's end of memory that the target may see. Holds one image at a time: the target
    has done with it when it answers."""

    def __init__(self, n_bytes: int) -> None:
        """Raises `OSError` where there is no such memory. None is taken up before it is used."""
        super().__init__()
        name = f"fairlead-kv-{secrets.token_hex(8)}"
        self._fd = os.memfd_create(name, os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._fd, n_bytes)
            self._shared = mmap.mmap(self._fd, n_bytes)
        except BaseException:
            os.close(self._fd)
            raise
        self.offer = Offer(os.getpid(), self._fd, name, n_bytes)
        self._is_filled = False
        self._is_seen = False

    def place(self, n_bytes: int) -> memoryview:
        """Memory for so many bytes: the shared one where it is seen, large enough and there."""
        if self._is_seen and n_bytes <= len(self._shared) and self._fill():
            return memoryview(self._shared)[:n_bytes]
        return super().place(n_bytes)

    def holds(self, image: memoryview) -> bool:
        return image.obj is self._shared

    def seen(self, is_seen: bool) -> None:
        self._is_seen = is_seen

    def close(self) -> None:
        """Nobody can open it from now on; whoever has it open keeps it."""
        os.close(self._fd)
        let_go(self._shared)

    def _fill(self) -> bool:
        """Takes its pages up, all at once: to find at a write that none is left is to be killed."""
        if not self._is_filled:
            try:
                os.posix_fallocate(self._fd, 0, len(self._shared))
            except OSError:
                self._is_seen = False
                return False
            self._is_filled = True
        return True


def let_go(memory: mmap.mmap) -> None:
    """It leaves this process: at once, or where a copy is under way as soon as that has ended."""
    with contextlib.suppress(BufferError):
        memory.close()


def memory_for(writer: asyncio.StreamWriter, n_bytes: int) -> Own:
    """Memory for images of so many bytes of KV: to lend, where that is worth it and the other end
    of the connection is on this machine."""
    if LINUX and n_bytes >= LEAST_BYTES and _is_near(writer):
        with contextlib.suppress(OSError):
            return Lent(n_bytes + MARGIN_BYTES)
    return Own()


def _is_near(writer: asyncio.StreamWriter) -> bool:
    """A connection to oneself has one address at both ends."""
    ours, theirs = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    return bool(ours and theirs) and ours[0] == theirs[0]


def borrow(offer: Offer) -> mmap.mmap | None:
    """The memory that is offered; None where it is not seen from here."""
    path = f"/proc/{offer.pid}/fd/{offer.fd}"
    try:
        if os.readlink(path) != f"/memfd:{offer.name} (deleted)":
            return None
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_size != offer.n_bytes:
            return None
        return mmap.mmap(fd, offer.n_bytes)
    except (OSError, ValueError, OverflowError):
        return None
    finally:
        os.close(fd)
