"""What has changed between two pictures of a fleet, and a picture with changes in it.

The page does in JavaScript what `apply` does here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.observe.window.classes import BINS

State = Mapping[str, Any]
KEYED = ("instances", "requests", "handoffs", "classes", "tenants")
"""Tables of rows by name, of which only those that changed are told."""


def difference(old: State, new: State) -> dict[str, Any]:
    """What `apply` needs in order to make the new picture of the old one."""
    found: dict[str, Any] = {}
    for key, value in new.items():
        before = old.get(key)
        if key in KEYED:
            rows = _rows(before or {}, value)
            if rows:
                found[key] = rows
        elif key == "bins":
            last_s = before[-1][0] if before else float("-inf")
            if fresh := [one for one in value if one[0] > last_s]:
                found[key] = fresh
        elif value != before:
            found[key] = value
    return found


def _rows(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`set` are rows that are new or changed, `gone` names that are no more."""
    changed = {name: row for name, row in new.items() if old.get(name) != row}
    gone = [name for name in old if name not in new]
    return {
        **({"set": changed} if changed else {}),
        **({"gone": gone} if gone else {}),
    }


def apply(state: State, change: Mapping[str, Any]) -> dict[str, Any]:
    """The picture with the changes in it; the order of rows that are both old and new stays."""
    found = dict(state)
    for key, value in change.items():
        if key in KEYED:
            rows = {**found.get(key, {}), **value.get("set", {})}
            found[key] = {n: row for n, row in rows.items() if n not in value.get("gone", ())}
        elif key == "bins":
            found[key] = [*found.get(key, []), *value][-BINS:]
        else:
            found[key] = value
    return found
