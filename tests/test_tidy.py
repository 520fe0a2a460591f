"""House style that a machine can check: who imports whom, what a pure floor may not touch."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fairlead"

FLOORS = (
    "model",
    "checks",
    "text",
    "workload",
    "latency",
    "memory",
    "policies",
    "instance",
    "fleet",
    "observe",
    "engine",
    "worker",
    "simulate",
    "client",
    "planner",
    "store",
    "gateway",
    "cli",
)
"""From the ground up: a floor imports from itself and from those before it."""

PURE = ("model", "workload", "latency", "memory", "policies", "instance", "fleet")
READERS = {
    "workload/layouts.py",
    "workload/read_parquet.py",
    "workload/read_text.py",
    "workload/trace.py",
    "latency/profile_file.py",
    "policies/registry.py",
}
"""Files of pure floors whose whole purpose is to open something; each says so in its name or its
docstring. Nothing that decides may live in them."""

IMPURE_MODULES = (
    "asyncio",
    "datetime",
    "io",
    "multiprocessing",
    "os",
    "secrets",
    "select",
    "signal",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "torch",
    "uuid",
)
ONLY_IN = {
    "torch": "engine",
    "llguidance": "engine",
    "vllm": "engine",
    "transformers": "engine",
    "matplotlib": "client",
    "opentelemetry": "observe",
    "ray": "worker",
    "uvicorn": "gateway",
    "python_multipart": "gateway",
    "sqlalchemy": "store",
    "alembic": "store",
}
FORBIDDEN_WORDS = ("FIX" + "ME", "TO" + "DO", "XX" + "X")


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def floor(path: Path) -> str | None:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else None


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            if module == "fairlead":
                for alias in node.names:
                    yield node.lineno, f"fairlead.{alias.name}"
            else:
                yield node.lineno, module


def calls(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


@pytest.mark.parametrize("path", files(), ids=name)
def test_imports_run_downward(path: Path) -> None:
    here = floor(path)
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] != "fairlead" or len(parts) < 2 or parts[1] not in FLOORS or here is None:
            continue
        assert FLOORS.index(parts[1]) <= FLOORS.index(here), (
            f"{name(path)}:{line}: {here} imports {module}, which stands above it"
        )


@pytest.mark.parametrize("path", [p for p in files() if floor(p) in PURE], ids=name)
def test_pure_floors_read_no_clock_open_nothing_and_draw_nothing_unseeded(path: Path) -> None:
    for line, module in imports(path):
        top = module.split(".")[0]
        where = f"{name(path)}:{line}"
        if name(path) not in READERS:
            assert top not in IMPURE_MODULES, f"{where}: a pure floor imports {module}"
            assert top not in ("pyarrow", "csv", "gzip", "pathlib"), f"{where}: opens files"
        assert module != "random" or "from random import Random" in path.read_text(), where
    for line, function in calls(path):
        where = f"{name(path)}:{line}: {function}"
        assert not function.startswith("random."), f"{where}: unseeded randomness"
        assert function != "Random()", where
        assert function not in ("input", "exec", "eval"), where
        assert function != "open" or name(path) in READERS, f"{where}: a pure floor opens a file"


@pytest.mark.parametrize("path", files(), ids=name)
def test_heavy_libraries_stay_in_the_one_folder_that_needs_them(path: Path) -> None:
    for line, module in imports(path):
        owner = ONLY_IN.get(module.split(".")[0])
        assert owner in (None, floor(path)), f"{name(path)}:{line}: {module} belongs to {owner}"


@pytest.mark.parametrize("path", [p for p in files() if floor(p) == "policies"], ids=name)
def test_no_policy_can_see_a_true_output_length(path: Path) -> None:
    """Invariant 8: what policies look at are the views, and no view has such a field."""
    for line, module in imports(path):
        assert not module.startswith("fairlead.workload"), f"{name(path)}:{line}: {module}"
    tree = ast.parse((SOURCE / "model" / "views.py").read_text())
    fields = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not fields & {"output_tokens", "true_output_tokens", "output_length"}


@pytest.mark.parametrize("path", files(), ids=name)
def test_nothing_is_left_lying_about(path: Path) -> None:
    text = path.read_text()
    for word in FORBIDDEN_WORDS:
        assert word not in text, f"{name(path)} holds {word}"
    if floor(path) not in ("cli", None):
        for line, function in calls(path):
            assert function != "print", f"{name(path)}:{line}: a stray print"
    if text.strip() and path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), f"{name(path)} does not say what it is"


def test_what_lies_beside_the_package_imports_only_what_there_is() -> None:
    """Neither types nor most tests look at benchmarks, examples and scripts."""
    wrong = []
    for folder in ("benchmarks", "examples", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.ImportFrom) or node.level or node.module is None:
                    continue
                if node.module.split(".")[0] == "fairlead":
                    wrong += [f"{path.name}: {name}" for name in _missing(node.module, node.names)]
    assert wrong == []


def _missing(module: str, names: list[ast.alias]) -> list[str]:
    found = importlib.import_module(module)
    is_folder = hasattr(found, "__path__")
    return [
        f"{module}.{alias.name}"
        for alias in names
        if not hasattr(found, alias.name)
        and not (is_folder and find_spec(f"{module}.{alias.name}"))
    ]
