"""Looking at processes that may end at any moment."""

from __future__ import annotations

import psutil


def command_line(process: psutil.Process) -> list[str]:
    """Empty for one that has ended, also where nobody has asked for its status yet."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
