"""KV images: what they hold, and what is refused. That a sequence goes on after one is shown with
the greedy equality."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("torch", reason="needs fairlead[engine]: torch and transformers")

import torch

from fairlead.engine.transfer import KvImage
from fairlead.model import ProtocolError, Sampling
from tests.patience import PATIENCE_S

NEVER_STOP = Sampling(temperature=0.0, ignore_eos=True)


def exported(driver: Any, n: int = 21) -> KvImage:
    sequence = driver.add("r", range(2, 2 + n))
    driver.step({sequence: n})
    return driver.engine.export_kv(sequence.blocks, n)  # type: ignore[no-any-return]


def test_an_image_holds_its_tokens_and_nothing_else(start: Callable[..., Any]) -> None:
    """The other slots of its last block may be someone else's; here they are poisoned."""
    image = exported(start("llama"))
    assert image.header.n_tokens == 21
    assert len(image.data) == 21 * 3 * 2 * 2 * 16 * 4  # layers, K and V, heads, head_dim, float32
    assert torch.frombuffer(bytearray(image.data), dtype=torch.float32).isfinite().all()


def test_an_image_survives_its_bytes(start: Callable[..., Any]) -> None:
    image = exported(start("llama"))
    assert KvImage.from_bytes(image.to_bytes()) == image


def test_pieces_hold_what_the_whole_holds(start: Callable[..., Any]) -> None:
    driver, target = start("llama"), start("llama")
    sequence = driver.add("r", range(2, 23))
    driver.step({sequence: 21})
    whole = driver.engine.export_kv(sequence.blocks, 21)
    for first, end in ((13, 21), (0, 7), (7, 13)):
        piece = driver.engine.export_kv(sequence.blocks, end - first, first)
        target.engine.import_image(piece.to_bytes(), [5, 90])
    assert target.engine.export_kv([5, 90], 21) == whole


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("is_writable", [True, False])
def test_an_image_is_written_where_it_is_wanted_and_read_where_it_lies(
    start: Callable[..., Any], is_writable: bool, offset: int
) -> None:
    """Wherever that is: torch itself wants memory that is aligned and may be written to."""
    driver, target = start("llama"), start("llama")
    whole = exported(driver)
    blocks = driver.sequences["r"].blocks
    memory = bytearray(offset) + bytearray(1 << 20)

    def place(n_bytes: int) -> memoryview:
        return memoryview(memory)[offset : offset + n_bytes]

    image = driver.engine.write_image(blocks, 21, 0, place)
    assert image == whole.to_bytes()
    target.engine.import_image(image if is_writable else image.toreadonly(), [5, 90])
    assert target.engine.export_kv([5, 90], 21) == whole


def test_a_piece_beyond_the_blocks_is_refused(start: Callable[..., Any]) -> None:
    driver = start("llama")
    sequence = driver.add("r", range(2, 23))
    driver.step({sequence: 21})
    piece = driver.engine.export_kv(sequence.blocks, 5, 16)
    with pytest.raises(ProtocolError, match="tokens up to 21, for 1 blocks"):
        driver.engine.import_kv(piece, [3])


def test_import_touches_only_its_slots(start: Callable[..., Any]) -> None:
    image = exported(start("llama"))
    target = start("llama")
    target.engine.import_kv(image, [5, 90])
    for layer in target.engine._pool.layers:
        assert layer[:, 5].isfinite().all()
        assert layer[:, 90, :5].isfinite().all()
        assert layer[:, 90, 5:].isnan().all()
        assert layer[:, :5].isnan().all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 1}, "another version: 1, expected 2"),
        ({"fingerprint": "x"}, "another fingerprint: 'x'"),
        ({"dtype": "bfloat16"}, "another dtype"),
        ({"layers": 4}, "another layers"),
        ({"n_tokens": 20}, "must hold"),
        ({"n_tokens": 0}, "must hold"),
        ({"n_tokens": -3}, "must hold"),
    ],
)
def test_an_image_that_does_not_fit_is_refused_and_changes_nothing(
    start: Callable[..., Any], change: dict[str, Any], complaint: str
) -> None:
    driver = start("llama")
    image = exported(driver)
    header = msgspec.structs.replace(image.header, **change)
    before = [layer.clone() for layer in driver.engine._pool.layers]
    with pytest.raises(ProtocolError, match=complaint):
        driver.engine.import_kv(KvImage(header, image.data), [3, 4])
    for old, new in zip(before, driver.engine._pool.layers, strict=True):
        assert torch.equal(old.nan_to_num(7.0), new.nan_to_num(7.0))


def test_an_image_of_another_model_is_refused(start: Callable[..., Any]) -> None:
    with pytest.raises(ProtocolError, match="another fingerprint"):
        start("qwen3").engine.import_kv(exported(start("llama")), [3, 4])


@pytest.mark.parametrize(
    "garbage",
    [b"", b"FLKV", b"HTTP/1.1 200 OK", b"FLKV\xff\xff\xff\xff{}", b"FLKV\x02\x00\x00\x00[]"],
)
def test_garbage_is_no_image(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        KvImage.from_bytes(garbage)


CHILD = """
import sys
from pathlib import Path
from fairlead.engine import EngineConfig, load
from fairlead.engine.transfer import KvImage
from fairlead.instance.sequence import Sequence
from fairlead.model import Request, RequestId, Row, RowKind, Sampling

model, image, *tokens = sys.argv[1:]
known, n_prompt = [int(t) for t in tokens], 21
engine = load(
    EngineConfig(model, dtype="float32", device="cpu", threads=1, n_blocks=9, block_tokens=7)
)
engine.import_kv(KvImage.from_bytes(Path(image).read_bytes()), blocks := [8, 1, 6, 3, 5, 0])
sampling = Sampling(temperature=0.0, ignore_eos=True)
request = Request(RequestId("r"), 0.0, n_prompt, 99, sampling=sampling, token_ids=known[:n_prompt])
sequence = Sequence(request, 1, known[n_prompt:], 1)
sequence.blocks = blocks
for _ in range(8):
    n = len(sequence.token_ids) - 1
    row = Row(sequence.id, RowKind.DECODE, n, 1, True)
    sequence.token_ids.append(engine.run([row], {sequence.id: sequence}).tokens[sequence.id])
print(*sequence.token_ids[n_prompt:])
"""


def test_another_process_goes_on(start: Callable[..., Any], tiny: Any, tmp_path: Path) -> None:
    """With its own block size and numbers."""
    driver = start("llama")
    sequence = driver.add("r", range(2, 23), NEVER_STOP)
    driver.produce(4)
    image = driver.engine.export_kv(sequence.blocks, sequence.n_computed)
    (tmp_path / "image").write_bytes(image.to_bytes())
    known = [str(token) for token in sequence.token_ids]
    command = [sys.executable, "-c", CHILD, str(tiny("llama")), str(tmp_path / "image"), *known]
    told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    driver.produce(12)
    assert told.returncode == 0, told.stderr
    assert [int(token) for token in told.stdout.split()] == driver.produced("r")
