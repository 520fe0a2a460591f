"""The frame of every page: its style, its head, and at its foot the command that made it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1d2127;
  background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .3rem; }
p { margin: .3rem 0; } .dim, caption, footer { color: #5d646e; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .9rem .22rem 0; text-align: right; border-bottom: 1px solid #e8eaed; }
td { white-space: nowrap; } td.text { white-space: normal; }
th:first-child, td:first-child { text-align: left; white-space: pre; padding-right: 2rem; }
thead th { border-bottom: 2px solid #b5b9bf; vertical-align: bottom; }
td.best { font-weight: 650; } td.best::after { content: " \\2605"; color: #009E73; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin-right: .4em; }
.note { border-left: 3px solid #E69F00; padding-left: .7rem; }
svg { width: 100%; height: auto; display: block; }
h3 { font-size: .95rem; margin: 1.4rem 0 .2rem; }
td.text, th.text { text-align: left; } .star { color: #009E73; }
td.bar { background: linear-gradient(#cfe3f1, #cfe3f1) 0 100% / var(--part) 3px no-repeat;
  padding-left: .3rem; }
table.heat td:not(:first-child) { padding: .22rem .9rem; }
.legend span { display: inline-block; margin-right: 1.4rem; font-size: .87rem; }
svg.key { width: 34px; height: 8px; display: inline-block; margin-right: .4em; }
details.load { border-top: 1px solid #e8eaed; padding: .5rem 0; }
details.load[open] { padding-bottom: 2rem; }
summary { cursor: pointer; padding: .15rem 0; }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: .6rem; }
svg.map { font: 11px system-ui, sans-serif; fill: #444; } svg.map .head { font-weight: 600; }
svg.map .end { text-anchor: end; } svg.map .frame { fill: none; stroke: #b5b9bf; }
svg.map image { image-rendering: pixelated; }
footer { margin: 3rem 0 1rem; border-top: 1px solid #e8eaed; padding-top: .8rem;
  font-size: .85rem; }
code { background: #f4f5f7; padding: .1rem .35rem; border-radius: 3px; word-break: break-word; }
"""


def document(title: str, parts: Iterable[str], command: str, versions: Iterable[str]) -> str:
    """A whole HTML page that fetches nothing from anywhere. `parts` are HTML already."""
    made_by = escape(", ".join(dict.fromkeys(versions)))
    footer = f"<footer>Made by Fairlead {made_by} with<br><code>{escape(command)}</code></footer>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join([*parts, footer])
        + "\n</body></html>\n"
    )
