"""A value of every instance over time as a picture: a row an instance, darker is more.

Drawn without matplotlib, as an SVG around a tiny PNG: a comparison holds dozens of them, each of up
to hundreds of instances.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLUMNS = 160
WIDTH, LEFT, TOP, BOTTOM = 470, 62, 22, 18
"""In the SVG's own units, which are pixels where the page is wide enough."""
LEAST_HEIGHT, MOST_HEIGHT, ROW_HEIGHT = 40, 260, 14
NAMED_ROWS = 16
"""More names than this could not be told apart."""
EMPTY = 255
"""The palette's last place: nothing was measured."""
NOW = (247, 251, 255), (107, 174, 214), (8, 69, 148)
"""From nothing to the most: a blue that stays readable in print."""


def heatmap(load: Mapping[str, Any], key: str, name: str, most: float, end_s: float) -> str:
    """`load` is what a Summary's curves hold. `most` is the value of the darkest blue, `end_s` the
    time at the right edge, so that pictures beside each other can be compared."""
    rows = [_row(series, key, most, end_s) for series in load.values()]
    height = min(max(ROW_HEIGHT * len(rows), LEAST_HEIGHT), MOST_HEIGHT)
    picture = base64.b64encode(_png(rows)).decode()
    wide = WIDTH - LEFT - 4
    return (
        f'<svg class="map" role="img" aria-label="{escape(name)} of each instance over time" '
        f'viewBox="0 0 {WIDTH} {TOP + height + BOTTOM}">'
        f'<text x="{LEFT}" y="14" class="head">{escape(name)}</text>'
        f'<text x="{WIDTH - 4}" y="14" class="end">darkest: {_amount(most)}</text>'
        f'<image x="{LEFT}" y="{TOP}" width="{wide}" height="{height}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{picture}"/>'
        f'<rect x="{LEFT}" y="{TOP}" width="{wide}" height="{height}" class="frame"/>'
        f"{_names(list(load), height)}"
        f'<text x="{LEFT}" y="{TOP + height + 13}">0 s</text>'
        f'<text x="{WIDTH - 4}" y="{TOP + height + 13}" class="end">{end_s:,.0f} s</text></svg>'
    )


def largest(loads: Sequence[Mapping[str, Any]], key: str) -> float:
    """The most that any instance of any of these reached."""
    values = (value for load in loads for series in load.values() for value in series[key])
    return max((value for value in values if value is not None), default=0.0)


def _row(series: Mapping[str, Any], key: str, most: float, end_s: float) -> bytes:
    """Shades by column: the mean of the samples that fall into it, else the one before."""
    sums, counts = [0.0] * COLUMNS, [0] * COLUMNS
    for t_s, value in zip(series["t_s"], series[key], strict=True):
        if value is not None:
            column = min(int(COLUMNS * t_s / end_s), COLUMNS - 1) if end_s > 0 else 0
            sums[column] += value
            counts[column] += 1
    known = [column for column in range(COLUMNS) if counts[column]]
    if not known:
        return bytes([EMPTY]) * COLUMNS
    shades, shade = [], EMPTY
    for column in range(COLUMNS):
        if counts[column]:
            shade = _shade(sums[column] / counts[column], most)
        shades.append(shade if column <= known[-1] + 1 else EMPTY)
    return bytes(shades)


def _shade(value: float, most: float) -> int:
    return min(max(round((EMPTY - 1) * value / most), 0), EMPTY - 1) if most > 0 else 0


def _names(names: Sequence[str], height: float) -> str:
    every = -(-len(names) // NAMED_ROWS)
    step = height / max(len(names), 1)
    return "".join(
        f'<text x="{LEFT - 4}" y="{TOP + step * (place + 0.5) + 3:.1f}" class="end">'
        f"{escape(name)}</text>"
        for place, name in enumerate(names)
        if place % every == 0
    )


def _amount(value: float) -> str:
    return f"{100 * value:.0f}%" if value <= 1 else f"{value:,.0f}"


def _png(rows: Sequence[bytes]) -> bytes:
    """Eight bits a pixel with a palette, as the PNG specification has it."""
    header = struct.pack(">IIBBBBB", COLUMNS, max(len(rows), 1), 8, 3, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows or [bytes([EMPTY]) * COLUMNS]), 9)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", _palette()),
        (b"tRNS", bytes([255]) * EMPTY + b"\0"),
        (b"IDAT", pixels),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _palette() -> bytes:
    low, middle, high = NOW
    colours = bytearray()
    for place in range(EMPTY):
        at = 2 * place / (EMPTY - 1)
        a, b, part = (low, middle, at) if at <= 1 else (middle, high, at - 1)
        colours += bytes(round(x + (y - x) * part) for x, y in zip(a, b, strict=True))
    return bytes(colours) + b"\xff\xff\xff"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
