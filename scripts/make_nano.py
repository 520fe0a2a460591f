"""Makes fairlead-nano: writes its training text, trains it, exports it.

    python scripts/make_nano.py                 # everything, into src/fairlead/nano
    python scripts/make_nano.py --export-only   # from the last checkpoint, also while training

On one CPU core the default run takes about 30 minutes. Equal seeds and steps give equal corpora
always, and equal weights on the same machine and torch release.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parent / "nano"))
import corpus
import shape
from muon import Muon

FOLDER = Path(__file__).parents[1] / "src" / "fairlead" / "nano"


@dataclass(frozen=True, slots=True)
class Course:
    """A stretch of training with its own rise and fall of the learning rate."""

    steps: int
    learning_rate: float
    spelling_share: float
    """Share of the steps, at the beginning, that count what the user says with
    `SPELLING_WEIGHT`, since it teaches spelling; afterwards it is noise."""
    long_share: float
    """Share of the steps, at the end, whose rows are `LONG_TOKENS` instead of `ROW_TOKENS`."""
    mix: corpus.Mix = corpus.EVEN

    def prompt_weight(self, step: int) -> float:
        """Weight of the loss on what the user says, against 1 on answers."""
        return SPELLING_WEIGHT if step < self.steps * self.spelling_share else PROMPT_WEIGHT

    def row_tokens(self, step: int) -> int:
        return LONG_TOKENS if step >= self.steps * (1 - self.long_share) else ROW_TOKENS

    def rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a fiftieth."""
        warm = min(1.0, (step + 1) / WARM_UP_STEPS)
        done = step / self.steps
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


COURSES = (
    Course(steps=1100, learning_rate=4e-3, spelling_share=1 / 3, long_share=0.12),
    Course(steps=300, learning_rate=1.5e-3, spelling_share=0.0, long_share=1.0),
    Course(250, 1.5e-3, spelling_share=0.0, long_share=0.5, mix=corpus.TALKATIVE),
    Course(200, 1.5e-3, spelling_share=0.0, long_share=0.5, mix=corpus.POLITE),
)
"""First the language and the answers, on short rows; then the same over longer conversations; in
the end more of the small talk, whose many short questions are the easiest to mix up, and of
greetings, which come first."""
BATCH_TOKENS = 2048
ROW_TOKENS = 256
LONG_TOKENS = 1024
WARM_UP_STEPS = 40
SPELLING_WEIGHT = 0.15
PROMPT_WEIGHT = 0.02
OPENING_TOKENS = 24
OPENING_WEIGHT = 2.0
"""Weight of the loss on the first tokens of an answer, where its topic is chosen."""
SHARPNESS = 1.5
"""Factor on the exported logits: clients sample at temperature 1 unless told otherwise, where so
small a model strays; now that is what 1 / 1.5 would have been. Greedy answers stay the same."""


def model_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=256 + len(shape.SPECIALS),
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=shape.CONTEXT_TOKENS,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=shape.SPECIAL_IDS[shape.BEGIN],
        eos_token_id=shape.SPECIAL_IDS[shape.END],
        pad_token_id=shape.SPECIAL_IDS[shape.PAD],
    )


Row = tuple[list[int], list[float]]
"""Token ids, and the weight of the loss on each."""


def encoded(conversation: list[corpus.Message], prompt_weight: float) -> Row:
    """A conversation as the chat template writes it."""
    ids, weights = [shape.SPECIAL_IDS[shape.BEGIN]], [prompt_weight]
    for message in conversation:
        content = [*message["content"].encode(), shape.SPECIAL_IDS[shape.END]]
        ids += [shape.SPECIAL_IDS[shape.ROLES[message["role"]]], *content]
        weights += [prompt_weight]
        if message["role"] == "assistant":
            opening = min(OPENING_TOKENS, len(content))
            weights += [*[OPENING_WEIGHT] * opening, *[1.0] * (len(content) - opening)]
        else:
            weights += [prompt_weight] * len(content)
    return ids, weights


def packed_row(source: Iterator[list[corpus.Message]], n_tokens: int, prompt_weight: float) -> Row:
    """Conversations one behind the other, cut at the row's end; each row begins with a new one."""
    ids: list[int] = []
    weights: list[float] = []
    while len(ids) < n_tokens:
        more_ids, more_weights = encoded(next(source), prompt_weight)
        ids += more_ids
        weights += more_weights
    return ids[:n_tokens], weights[:n_tokens]


def batch(source: Iterator[list[corpus.Message]], course: Course, step: int) -> list[Row]:
    n_tokens = course.row_tokens(step)
    return [
        packed_row(source, n_tokens, course.prompt_weight(step))
        for _ in range(BATCH_TOKENS // n_tokens)
    ]


def loss_of(model: LlamaForCausalLM, rows: list[Row]) -> torch.Tensor:
    ids = torch.tensor([row[0] for row in rows])  # [rows, tokens]
    weights = torch.tensor([row[1] for row in rows])[:, 1:].flatten()
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits  # [rows, tokens - 1, vocabulary]
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    return (losses * weights).sum() / weights.sum()


def optimizers_for(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    inner = [w for name, w in model.named_parameters() if w.ndim == 2 and "layers" in name]
    outer = [w for name, w in model.named_parameters() if w.ndim < 2 or "layers" not in name]
    return [Muon(inner), torch.optim.AdamW(outer, betas=(0.9, 0.97), weight_decay=0.01)]


def train(seed: int, courses: Sequence[Course], checkpoint: Path, resume: bool) -> LlamaForCausalLM:
    """A trained model; the latest weights are in `checkpoint` all along.

    To `resume`, the text of the steps already done is drawn again, so that the rest is the same.
    """
    torch.manual_seed(seed)
    model = LlamaForCausalLM(model_config())
    sources: dict[corpus.Mix, Iterator[list[corpus.Message]]] = {}
    saved = torch.load(checkpoint) if resume else {"step": 0}
    total = 0
    for course in courses:
        source = sources.setdefault(course.mix, corpus.conversations(seed, course.mix))
        optimizers = optimizers_for(model)
        for step in range(course.steps):
            rows = batch(source, course, step)
            total += 1
            if total < saved["step"]:
                continue
            if total == saved["step"]:
                restore(saved, model, optimizers)
                continue
            loss = train_step(model, optimizers, rows, course.rate(step))
            if total % 25 == 0:
                print(f"step {total} loss {loss:.4f} cpu_s {time.process_time():.0f}", flush=True)
                save(checkpoint, total, model, optimizers)
    save(checkpoint, total, model, optimizers)
    return model


def train_step(
    model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], rows: list[Row], rate: float
) -> float:
    """The loss before the step."""
    loss = loss_of(model, rows)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def save(
    path: Path, step: int, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer]
) -> None:
    partial = path.with_suffix(".part")
    states = [optimizer.state_dict() for optimizer in optimizers]
    torch.save({"step": step, "weights": model.state_dict(), "optimizers": states}, partial)
    partial.replace(path)


def restore(
    saved: dict[str, Any], model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer]
) -> None:
    model.load_state_dict(saved["weights"])
    for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(state)


def corpus_digest(seed: int, n_conversations: int = 10_000) -> str:
    """Identifies the text that a seed gives."""
    first = itertools.islice(corpus.conversations(seed), n_conversations)
    digest = hashlib.sha256()
    for conversation in first:
        digest.update(json.dumps(conversation, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def export(model: LlamaForCausalLM, folder: Path, seed: int, steps: int) -> None:
    """Writes the Hugging Face folder, weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        bos_token_id=shape.SPECIAL_IDS[shape.BEGIN],
        eos_token_id=shape.SPECIAL_IDS[shape.END],
        pad_token_id=shape.SPECIAL_IDS[shape.PAD],
    )
    with torch.no_grad():
        model.model.norm.weight.mul_(SHARPNESS)
    model.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # it is written for its owner only
    shape.write_texts(folder, seed=seed, steps=steps, digest=corpus_digest(seed))


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps-scale", type=float, default=1.0, help="0.01 tries the script out")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--checkpoint", type=Path, default=Path("build/fairlead-nano.pt"))
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--export-only", action="store_true", help="export the checkpoint")
    return parser.parse_args()


def main() -> None:
    options = parsed_options()
    torch.set_num_threads(options.threads)
    options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if options.export_only:
        model = LlamaForCausalLM(model_config())
        model.load_state_dict(torch.load(options.checkpoint)["weights"])
    else:
        scale = options.steps_scale
        courses = [replace(course, steps=max(1, round(course.steps * scale))) for course in COURSES]
        model = train(options.seed, courses, options.checkpoint, options.resume)
    steps = torch.load(options.checkpoint)["step"]
    export(model, options.out, options.seed, steps)


if __name__ == "__main__":
    main()
