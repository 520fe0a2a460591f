"""The built-in model as it is shipped, and the script that made it."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fairlead.text import NANO, Tokenizer, model_folder

FOLDER = model_folder(NANO)
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS / "nano"))
    spec = importlib.util.spec_from_file_location("nano_corpus", SCRIPTS / "nano" / "corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_folder_is_under_ten_megabytes() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 10_000_000


def test_it_is_llama_shaped_and_speaks_for_every_token() -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == 8192
    assert config["vocab_size"] == Tokenizer.load(NANO).vocab_size


def test_the_weights_are_those_of_a_llama_in_half_precision() -> None:
    """Reads the header of the safetensors file: eight bytes of length, then JSON."""
    data = (FOLDER / "model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header.pop("__metadata__", None)
    assert "model.layers.0.self_attn.q_proj.weight" in header
    assert {tensor["dtype"] for tensor in header.values()} == {"F16"}


def test_it_says_under_which_licence_it_is() -> None:
    assert "Apache License, Version 2.0" in (FOLDER / "README").read_text()


def test_equal_seeds_write_equal_conversations(corpus: ModuleType) -> None:
    first, again, other = (
        list(itertools.islice(corpus.conversations(seed), 500)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_every_conversation_fits_the_template(corpus: ModuleType) -> None:
    tokenizer = Tokenizer.load(NANO)
    for conversation in itertools.islice(corpus.conversations(0), 200):
        roles = [message["role"] for message in conversation]
        n_turns = roles.count("user")
        assert roles[len(roles) % 2 :] == ["user", "assistant"] * n_turns
        assert all(message["content"].isascii() for message in conversation)
        assert tokenizer.encode_chat(conversation, add_generation_prompt=False)


def test_the_shipped_tokenizer_and_template_are_those_of_the_script(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS / "nano"))
    sys.modules.pop("shape", None)
    import shape  # type: ignore[import-not-found,unused-ignore]

    shape.write_texts(tmp_path, seed=0, steps=0, digest="")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_text() == (FOLDER / name).read_text()


def test_it_answers_in_english_and_ends_by_itself() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(NANO)
    model = transformers.LlamaForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    ids = tokenizer.encode_chat([{"role": "user", "content": "What is Fairlead?"}])
    out = model.generate(torch.tensor([ids]), max_new_tokens=400, do_sample=False)[0].tolist()
    answer = tokenizer.decode(out[len(ids) :])
    assert out[-1] in tokenizer.eos_token_ids
    assert "Fairlead" in answer
    assert answer.endswith(".")
