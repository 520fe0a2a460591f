"""What a pool's settings make of vLLM's arguments."""

from __future__ import annotations

import pytest

from fairlead.engine.vllm import VllmEngineConfig
from fairlead.engine.vllm.config import NEVER, OURS
from fairlead.model import ConfigError
from fairlead.text import model_folder

KNOWN = ["model", "enforce_eager", "max_num_batched_tokens", "gpu_memory_utilization"]


def test_settings_of_the_pool_become_arguments() -> None:
    config = VllmEngineConfig("fairlead-nano", n_blocks=10, max_sequences=7, max_context=99)
    arguments = config.arguments(KNOWN)
    assert arguments["model"] == str(model_folder("fairlead-nano"))
    assert arguments["num_gpu_blocks_override"] == 11, "vLLM keeps one for itself"
    assert (arguments["max_num_seqs"], arguments["max_model_len"]) == (7, 99)
    assert arguments["enable_prefix_caching"] is False


def test_a_context_is_no_longer_than_memory() -> None:
    def longest(**settings: int) -> object:
        return VllmEngineConfig("fairlead-nano", **settings).arguments(KNOWN)["max_model_len"]  # type: ignore[arg-type]

    assert longest(n_blocks=10, max_context=1000) == 160
    assert longest(n_blocks=10, max_context=100) == 100
    assert longest(max_context=100) == 100
    assert longest(n_blocks=10) == -1, "vLLM finds out"


def test_a_name_that_is_no_folder_is_left_to_vllm() -> None:
    assert VllmEngineConfig("owner/name").arguments(KNOWN)["model"] == "owner/name"


def test_more_arguments_of_vllms_are_passed_on() -> None:
    config = VllmEngineConfig("fairlead-nano", engine_args={"enforce_eager": True})
    assert config.arguments(KNOWN)["enforce_eager"] is True


def test_an_argument_that_vllm_does_not_have_is_told_with_its_nearest() -> None:
    config = VllmEngineConfig("fairlead-nano", engine_args={"enforce_egger": True})
    with pytest.raises(ConfigError, match="no argument 'enforce_egger'; did you mean 'enforce_eag"):
        config.arguments(KNOWN)


@pytest.mark.parametrize("name", [*OURS, *NEVER])
def test_what_is_ours_to_say_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"engine_args.{name} "):
        VllmEngineConfig("fairlead-nano", engine_args={name: 1})


def test_all_mistakes_are_told_together() -> None:
    with pytest.raises(ConfigError, match=r"block_size is for block_tokens.*; .*scheduler_cls"):
        VllmEngineConfig("fairlead-nano", engine_args={"block_size": 1, "scheduler_cls": "x"})
