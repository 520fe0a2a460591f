"""The embedded engine: rows in, tokens out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from fairlead.engine.batch import build_batch
from fairlead.engine.config import EngineConfig
from fairlead.engine.embedding import LastHidden
from fairlead.engine.grammar import Grammars
from fairlead.engine.loading import choose_device, choose_dtype, kv_shape, load_model
from fairlead.engine.models import fingerprint, read_facts, resolve_model
from fairlead.engine.output import Output
from fairlead.engine.pool import KvPool, KvShape
from fairlead.engine.sampling import Sampler
from fairlead.engine.transfer import KvImage, Place, export_image, import_image, write_image
from fairlead.instance.sequence import Sequence as Seq
from fairlead.model import ConfigError, RequestId, Row, Sampling


class Engine:
    """One model and its KV memory. Synchronous; to be used from one thread."""

    def __init__(self, config: EngineConfig) -> None:
        """Loads the model. Raises `ModelError` or `ConfigError` where that cannot be."""
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        facts = read_facts(resolve_model(config.model))
        device = choose_device(config.device)
        dtype = choose_dtype(config.dtype, device)
        self._model = load_model(facts, dtype, device)
        self._hidden = LastHidden(self._model)
        shape = kv_shape(self._model, dtype)
        self._pool = KvPool(shape, _n_blocks(config, shape), config.block_tokens, device)
        self._grammars = Grammars(facts.folder, facts.vocab_size, facts.eos_token_ids)
        self._sampler = Sampler(facts.eos_token_ids, facts.vocab_size, self._grammars)
        self.n_blocks = self._pool.n_blocks
        self.block_tokens = config.block_tokens
        self.kv_token_bytes = shape.token_bytes
        self.max_context = facts.max_context
        """Tokens of prompt and output that the model's positions allow; memory may allow fewer."""
        self.vocab_size = facts.vocab_size
        self.eos_token_ids = facts.eos_token_ids
        self.fingerprint = fingerprint(facts.folder)
        self.dtype = str(dtype).removeprefix("torch.")
        self.device = device.type
        self.moves_kv = True
        self.embeds = True

    @torch.inference_mode()
    def run(self, rows: Sequence[Row], sequences: Mapping[RequestId, Seq]) -> Output:
        """One iteration: computes the KV of every row's tokens, and draws a token for each row
        that samples.

        `sequences` are read, not changed. Each row's blocks must cover its tokens already.
        """
        batch = build_batch(rows, sequences, self._pool, self.vocab_size)
        logits = self._model(
            input_ids=batch.token_ids,
            position_ids=batch.positions,
            use_cache=False,
            logits_to_keep=batch.last,
            plan=batch.plan,
        ).logits[0]  # [samples, vocabulary]
        vectors = self._hidden.vectors(batch.last, batch.sampling)
        output = self._sampler.sample(logits, batch.sampling)
        output.vectors = vectors
        return output

    @torch.inference_mode()
    def export_kv(self, blocks: Sequence[int], n_tokens: int, start: int = 0) -> KvImage:
        """A copy of the KV of a sequence's `n_tokens` from `start` on, which lie in `blocks`."""
        return export_image(self._pool, self.fingerprint, blocks, n_tokens, start)

    @torch.inference_mode()
    def write_image(
        self, blocks: Sequence[int], n_tokens: int, start: int, place: Place
    ) -> memoryview:
        """The same as bytes, written once: straight into the memory that `place` gives."""
        return write_image(self._pool, self.fingerprint, blocks, n_tokens, start, place)

    @torch.inference_mode()
    def import_kv(self, image: KvImage, blocks: Sequence[int]) -> None:
        """Puts an exported copy into `blocks`, as if it had been computed here.

        Raises `ProtocolError`, and changes nothing, where it is of another model or dtype.
        """
        import_image(self._pool, self.fingerprint, image, blocks)

    def import_image(self, image: bytes | memoryview, blocks: Sequence[int]) -> None:
        """The same, from its bytes. Raises `ProtocolError` on anything that is not an image."""
        self.import_kv(KvImage.from_bytes(image), blocks)

    def objection(self, sampling: Sampling) -> str:
        """Why outputs cannot be sampled like that; empty where they can."""
        return self._grammars.objection(sampling) if sampling.constrained else ""

    def forget(self, request_id: RequestId) -> None:
        """A request left: drops what was kept to sample it faster. Unknown ones are fine."""
        self._sampler.forget(request_id)

    def close(self) -> None:
        """Nothing is held that does not go by itself."""


def _n_blocks(config: EngineConfig, shape: KvShape) -> int:
    if config.n_blocks is not None:
        return config.n_blocks
    block_bytes = shape.token_bytes * config.block_tokens
    if config.kv_bytes < block_bytes:
        raise ConfigError(
            f"kv_bytes is {config.kv_bytes}, but one block of {config.block_tokens} tokens of "
            f"model {config.model!r} takes {block_bytes}"
        )
    return config.kv_bytes // block_bytes
