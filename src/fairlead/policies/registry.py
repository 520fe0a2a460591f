"""Every policy by its name: the one place where they register and are found.

A user's own package adds policies by an entry point in the group `fairlead.policies` that names a
module; importing the module registers them.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import entry_points
from random import Random
from typing import Any, TypeVar

from fairlead.model import ConfigError

FAMILIES = ("admission", "fairness", "routing", "batching", "rescheduling", "roles", "scaling")

Builder = Callable[[Any, Random], Any]
B = TypeVar("B", bound=Builder)


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered policy."""

    family: str
    name: str
    params: type[Any]
    """A frozen dataclass: the policy's parameters with units and published defaults."""
    builder: Builder
    module: str
    doc: str
    """Docstring of the policy's module: what it is, its paper, its rule."""

    @property
    def sentence(self) -> str:
        """What it does, in a sentence."""
        return self.doc.split("\n\n")[0].replace("\n", " ").strip()

    @property
    def paper(self) -> str | None:
        for paragraph in self.doc.split("\n\n"):
            for line in paragraph.splitlines():
                if line.startswith(("Paper:", "Source:")):
                    return line.split(":", 1)[1].strip()
        return None


_entries: dict[tuple[str, str], Entry] = {}
_loaded = False


def register(family: str, name: str, params: type[Any]) -> Callable[[B], B]:
    """Decorates a class or function that is called with (params, rng) and returns the policy."""
    assert family in FAMILIES, f"no family {family!r}"

    def decorate(builder: B) -> B:
        key = (family, name)
        other = _entries.get(key)
        if other is not None and other.module != builder.__module__:
            raise ConfigError(
                f"two {family} policies are called {name!r}: in {other.module} and "
                f"{builder.__module__}; rename one"
            )
        doc = docstring(builder.__module__)
        _entries[key] = Entry(family, name, params, builder, builder.__module__, doc.strip())
        return builder

    return decorate


def routing(name: str, params: type[Any]) -> Callable[[B], B]:
    return register("routing", name, params)


def admission(name: str, params: type[Any]) -> Callable[[B], B]:
    return register("admission", name, params)


def fairness(name: str, params: type[Any]) -> Callable[[B], B]:
    return register("fairness", name, params)


def batching(name: str, params: type[Any]) -> Callable[[B], B]:
    return register("batching", name, params)


def rescheduling(name: str, params: type[Any]) -> Callable[[B], B]:
    return register("rescheduling", name, params)


def roles(name: str, params: type[Any]) -> Callable[[B], B]:
    return register("roles", name, params)


def scaling(name: str, params: type[Any]) -> Callable[[B], B]:
    return register("scaling", name, params)


def entries() -> list[Entry]:
    """All policies, sorted by family and name."""
    _load()
    order = {family: i for i, family in enumerate(FAMILIES)}
    return sorted(_entries.values(), key=lambda entry: (order[entry.family], entry.name))


def find(family: str, name: str) -> Entry:
    """Raises `ConfigError` that names the nearest policy where there is none."""
    _load()
    entry = _entries.get((family, name))
    if entry is None:
        known = [other for kind, other in _entries if kind == family]
        raise ConfigError(f"no {family} policy is called {name!r}{suggest(name, known)}")
    return entry


def build(family: str, name: str, params: Mapping[str, Any], rng: Random) -> Any:
    """A new policy; raises `ConfigError` on an unknown name, an unknown or a bad parameter."""
    entry = find(family, name)
    return entry.builder(read_params(entry, params), rng)


def read_params(entry: Entry, given: Mapping[str, Any]) -> Any:
    """The policy's parameters with `given` over its defaults."""
    assert is_dataclass(entry.params)
    known = {field.name: field for field in fields(entry.params)}
    where = f"{entry.family} policy {entry.name!r}"
    for key, value in given.items():
        if key not in known:
            raise ConfigError(f"{where} has no parameter {key!r}{suggest(key, list(known))}")
        default = known[key].default
        if default is not MISSING and not _same_kind(value, default):
            raise ConfigError(
                f"{where}: {key} must be of type {type(default).__name__}, got {value!r}"
            )
    try:
        return entry.params(**given)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def docstring(module: str) -> str:
    """What the module says of itself: compiled it says nothing, but its source lies beside it."""
    doc = importlib.import_module(module).__doc__
    package, _, name = module.rpartition(".")
    if doc is None and package:
        with suppress(OSError):
            source = pkgutil.get_data(package, f"{name}.py")
            doc = ast.get_docstring(ast.parse(source or b""), clean=False)
    return doc or ""


def suggest(name: str, known: list[str]) -> str:
    """The tail of a message about an unknown name: the nearest known one, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""


def _same_kind(value: object, default: object) -> bool:
    if default is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))


def _load() -> None:
    """Imports every module of the families' folders, and users' own by entry point."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    for family in FAMILIES:
        package = importlib.import_module(f"fairlead.policies.{family}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    for point in entry_points(group="fairlead.policies"):
        point.load()
