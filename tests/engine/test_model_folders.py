"""Which models are served, and what the others are told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.engine.config import EngineConfig
from fairlead.engine.models import NANO, fingerprint, read_facts, resolve_model
from fairlead.model import ConfigError, ModelError


@pytest.fixture
def folder(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a good model, to be broken."""
    pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")
    return Path(shutil.copytree(tiny("llama"), tmp_path / "model"))


def change(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def load(folder: Path) -> Any:
    from fairlead.engine import load

    return load(EngineConfig(str(folder), device="cpu", n_blocks=4))


def test_facts_of_a_good_folder(folder: Path) -> None:
    facts = read_facts(folder)
    assert (facts.family, facts.max_context, facts.vocab_size) == ("llama", 512, 512)
    assert facts.eos_token_ids == (1,)


def test_the_generation_config_has_the_last_word_on_eos(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8]}))
    assert read_facts(folder).eos_token_ids == (7, 8)


def test_an_engine_says_what_it_is(folder: Path) -> None:
    engine = load(folder)
    assert (engine.n_blocks, engine.block_tokens, engine.max_context) == (4, 16, 512)
    assert engine.kv_token_bytes == 3 * 2 * 2 * 16 * 4
    assert (engine.dtype, engine.device, engine.eos_token_ids) == ("float32", "cpu", (1,))


def test_blocks_are_as_many_as_fit_into_the_memory(folder: Path) -> None:
    from fairlead.engine import load

    block_bytes = 16 * 3 * 2 * 2 * 16 * 4
    config = EngineConfig(str(folder), device="cpu", kv_bytes=5 * block_bytes + 1)
    assert load(config).n_blocks == 5
    with pytest.raises(ConfigError, match="one block of 16 tokens"):
        load(EngineConfig(str(folder), device="cpu", kv_bytes=block_bytes - 1))


def test_the_built_in_model_is_a_folder_of_the_package() -> None:
    assert resolve_model(NANO).name == "nano"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder; expected fairlead-nano"):
        resolve_model(str(tmp_path / "nothing"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="is a file"):
        resolve_model(str(tmp_path / "file"))


def test_a_hub_name_without_a_hub_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="could not be fetched from the hub"):
        resolve_model("nobody/no-such-model")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"model_type": "gemma3", "architectures": ["Gemma3ForCausalLM"]}, "serves LlamaForCausal"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "serves LlamaForCausalLM, Qwen2"),
        ({"model_type": None, "architectures": None}, "architecture"),
        ({"use_sliding_window": True, "sliding_window": 32}, "sliding-window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layers other than full"),
        ({"attn_logit_softcapping": 30.0}, "soft-capped"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic' rotary"),
        ({"rope_scaling": {"type": "longrope"}}, "'longrope' rotary"),
        ({"vocab_size": "many"}, "vocab_size must be a positive number"),
        ({"max_position_embeddings": None}, "max_position_embeddings must be"),
    ],
)
def test_an_unsupported_model_is_told_what_is_missing(
    folder: Path, settings: dict[str, Any], complaint: str
) -> None:
    change(folder, **settings)
    with pytest.raises(ModelError, match=complaint):
        load(folder)


def test_a_window_that_is_switched_off_is_none(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """Qwen configs name a window and do not use it."""
    pytest.importorskip("torch")
    folder = Path(shutil.copytree(tiny("qwen2"), tmp_path / "model"))
    change(folder, use_sliding_window=False, sliding_window=4096)
    assert read_facts(folder).family == "qwen2"


def test_broken_files_are_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[: len(good) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)
    weights.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)
    weights.unlink()
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        load(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="must hold a JSON object"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    change(folder, num_hidden_layers=5)
    with pytest.raises(ModelError, match=r"do not fit its config\.json"):
        load(folder)
    change(folder, num_hidden_layers=3, intermediate_size=99)
    with pytest.raises(ModelError):
        load(folder)


def test_fingerprints_tell_models_apart(
    folder: Path, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    assert fingerprint(folder) == fingerprint(tiny("llama"))
    assert fingerprint(folder) != fingerprint(tiny("qwen3"))
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1000] ^= 1
    weights.write_bytes(bytes(content))
    changed = fingerprint(folder)
    assert changed != fingerprint(tiny("llama"))
    change(folder, rope_theta=5.0)
    assert fingerprint(folder) != changed


def test_a_wrong_engine_config_lists_all_its_problems() -> None:
    with pytest.raises(ConfigError) as raised:
        EngineConfig("m", dtype="int3", device="tpu", threads=0, block_tokens=-1)
    for name in ("dtype", "device", "threads", "block_tokens"):
        assert name in str(raised.value)


def test_cuda_without_a_gpu_is_refused(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    from fairlead.engine import load

    with pytest.raises(ConfigError, match="torch sees none"):
        load(EngineConfig(str(folder), device="cuda"))
