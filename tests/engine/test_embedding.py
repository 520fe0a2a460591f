"""The vector of a prompt is transformers' last hidden state, however it was computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")

import numpy as np
import torch
import transformers

PROMPT = [2 + (7 * i) % 500 for i in range(60)]


def expected(folder: Path, token_ids: list[int]) -> Any:
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        state = model(torch.tensor([token_ids])).last_hidden_state[0, -1]
    return (state / state.norm()).numpy()


def embedding(driver: Any, name: str, token_ids: list[int]) -> Any:
    sequence = driver.add(name, token_ids)
    sequence.request = structs.replace(sequence.request, embeds=True)
    return sequence


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_it_is_the_last_state_whole_in_chunks_and_beside_others(
    start: Callable[..., Any], tiny: Callable[[str], Path], family: str
) -> None:
    driver = start(family)
    whole, chunked = (embedding(driver, name, PROMPT) for name in ("whole", "chunked"))
    talking = driver.add("talking", PROMPT[:20])
    first = driver.step({whole: 60, chunked: 25, talking: 20})
    assert set(first.vectors) == {"whole"}
    second = driver.step({chunked: 35, talking: 1})
    assert set(second.vectors) == {"chunked"}
    right = expected(tiny(family), PROMPT)
    for vector in (first.vectors["whole"], second.vectors["chunked"]):
        found = np.frombuffer(vector, "<f4")
        assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-6)
        np.testing.assert_allclose(found, right, atol=2e-6)


def test_who_asked_for_none_gets_none(start: Callable[..., Any]) -> None:
    driver = start("llama")
    sequence = driver.add("a", PROMPT)
    assert driver.step({sequence: 60}).vectors == {}
