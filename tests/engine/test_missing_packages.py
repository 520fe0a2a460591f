"""What a worker says where the packages that compute are not there, or do not work."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path

import pytest

from fairlead.engine import EngineConfig, load
from fairlead.model import ModelError

BROKEN = "Could not import module 'AutoConfig'. Are this object's requirements defined correctly?"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "needs torch, which is not"),
        # As transformers tells that a package of its own cannot be loaded.
        (ModuleNotFoundError(BROKEN), f"fails: {BROKEN}"),
    ],
)
def test_a_package_that_is_missing_or_broken_is_told_of(
    error: ModuleNotFoundError, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "fairlead.engine.engine":
            raise error
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "fairlead.engine.engine", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError) as told:
        load(EngineConfig(model=str(tmp_path)))
    assert said in str(told.value)
    assert "pip install 'fairlead[engine]'" in str(told.value)
