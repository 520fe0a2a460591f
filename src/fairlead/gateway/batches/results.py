"""The result files of a batch while they are written. They are also the record of which lines are
done: a line is done when its answer stands there whole."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from fairlead.gateway.batches.done import Done
from fairlead.gateway.batches.lines import number_of
from fairlead.store.batch import Checkpoint

MAX_RESULT_BYTES = 1 << 28
"""A line of a result file that is longer was never written by us."""


class TakenError(Exception):
    """Another process of this machine writes these files."""


class Results:
    """Output and error file of one batch. Blocking, and to be used by one thread at a time."""

    def __init__(self, output: Path, error: Path) -> None:
        """Raises `TakenError`. The lock is gone with its process, however that ends."""
        self._paths = (output, error)
        self._output = _open(output)
        try:
            fcntl.flock(self._output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._output)
            raise TakenError from None
        self._error = _open(error)
        self.output_bytes = self.error_bytes = 0
        self.completed = self.failed = 0

    def recover(self, checkpoint: Checkpoint) -> Done:
        """What is done: by the checkpoint, and by what was written after it. A line that was being
        written when its gateway died is taken away."""
        done = Done(checkpoint.low, checkpoint.low_offset, checkpoint.ahead)
        self.output_bytes, self.completed = self._read_on(
            0, checkpoint.output_bytes, checkpoint.completed, done
        )
        self.error_bytes, self.failed = self._read_on(
            1, checkpoint.error_bytes, checkpoint.failed, done
        )
        return done

    def _read_on(self, which: int, size: int, n: int, done: Done) -> tuple[int, int]:
        with self._paths[which].open("rb") as file:
            file.seek(size)
            while line := file.readline(MAX_RESULT_BYTES):
                number = number_of(line)
                if number is None or number in done:
                    break
                done.add(number)
                size += len(line)
                n += 1
        os.truncate((self._output, self._error)[which], size)
        return size, n

    def write(self, outputs: Sequence[bytes], errors: Sequence[bytes]) -> None:
        """Appends whole lines. Raises `OSError` where there is no room; then nothing changed."""
        output, error = b"".join(outputs), b"".join(errors)
        try:
            _append(self._output, output, self.output_bytes)
            _append(self._error, error, self.error_bytes)
        except OSError:
            os.truncate(self._output, self.output_bytes)
            os.truncate(self._error, self.error_bytes)
            raise
        self.output_bytes += len(output)
        self.error_bytes += len(error)
        self.completed += len(outputs)
        self.failed += len(errors)

    def keep(self) -> None:
        """What was written survives the death of the machine, too."""
        os.fsync(self._output)
        os.fsync(self._error)

    def close(self, delete_empty: bool = False) -> None:
        """At the end of a batch, a file with nothing in it is no file."""
        for path, size in zip(self._paths, (self.output_bytes, self.error_bytes), strict=True):
            if delete_empty and not size:
                path.unlink(missing_ok=True)
        os.close(self._error)
        os.close(self._output)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _append(file: int, data: bytes, size: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], size + done)
