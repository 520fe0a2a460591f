"""What is compiled: only what other processes need not be sent, for they could not unpack it."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import fairlead
from fairlead.planner.capacity import Search
from fairlead.planner.cell import Cell

PACKAGE = Path(fairlead.__file__).parent
SETUP = Path(__file__).parents[2] / "setup.py"


def listed(name: str) -> tuple[str, ...]:
    for node in ast.parse(SETUP.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            found: tuple[str, ...] = ast.literal_eval(node.value)
            return found
    raise AssertionError(f"{SETUP} has no {name}")


def described_by(kind: Any, seen: dict[type, None]) -> Iterator[type]:
    """The dataclass and all that its fields are made of."""
    for part in get_args(kind):
        yield from described_by(part, seen)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind not in seen:
        seen[kind] = None
        yield kind
        for hint in get_type_hints(kind).values():
            yield from described_by(hint, seen)


def test_a_frozen_class_that_goes_to_other_processes_is_not_compiled() -> None:
    compiled = []
    for kind in (*described_by(Cell, {}), *described_by(Search, {})):
        path = Path(inspect.getfile(kind)).relative_to(PACKAGE)
        in_core = path.parts[0] in listed("CORE") and path.name not in listed("INTERPRETED")
        if in_core or str(path) in listed("BESIDE"):
            compiled.append(f"{kind.__name__} in {path}")
    assert compiled == []


def compiled_files() -> list[Path]:
    files = [PACKAGE / path for path in listed("BESIDE")]
    for folder in listed("CORE"):
        paths = (PACKAGE / folder).glob("*.py")
        files += [path for path in paths if path.name not in listed("INTERPRETED")]
    return files


def compiled_nodes() -> Iterator[tuple[str, ast.AST]]:
    """Everything in compiled files, with the place where it stands."""
    for path in compiled_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}", node


def test_no_compiled_file_asks_for_what_compiled_classes_lack() -> None:
    """They have no `__slots__` and no `__dict__` to look into."""
    asked = [
        place
        for place, node in compiled_nodes()
        if isinstance(node, ast.Attribute) and node.attr in ("__slots__", "__dict__")
    ]
    assert asked == []


def test_no_compiled_class_has_keywords_that_change_what_it_does() -> None:
    """The compiler drops them: a struct would go over the wire in another shape."""
    lost = [
        f"{place} {keyword.arg}"
        for place, node in compiled_nodes()
        if isinstance(node, ast.ClassDef)
        for keyword in node.keywords
        if keyword.arg not in ("frozen", "gc")
    ]
    assert lost == []


def test_no_compiled_class_inherits_from_an_interpreted_one() -> None:
    """It would not clear its weak references: whoever follows one crashes."""
    paths = [path.relative_to(PACKAGE.parent).with_suffix("") for path in compiled_files()]
    modules = [".".join(path.parts) for path in paths]
    harmless = {"abc", "builtins", "enum", "msgspec", "typing"}
    strangers = [
        f"{kind.__qualname__} of {name} is a {base.__qualname__}"
        for name in modules
        for kind in vars(importlib.import_module(name)).values()
        if inspect.isclass(kind) and kind.__module__ == name
        for base in kind.__mro__
        if base.__module__ not in modules and base.__module__.partition(".")[0] not in harmless
    ]
    assert strangers == []
