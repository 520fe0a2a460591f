"""Decode and prefill tokens per second of the embedded engine against transformers.

    python benchmarks/engine.py [--model FOLDER] [--json FILE] [--small]

One process, one model, one thread count. Three ways to continue the same prompts greedily:

    fairlead         the embedded engine, rows planned by hand (no Instance, no worker)
    generate_batch   transformers' continuous batching, its manager kept from call to call
    generate         transformers' static batch, all prompts of one length

Each is called three times: with prompts of one token for one new token (that is the overhead of a
call), with the full prompts for one new token, and with the full prompts for N more. The second
less the first is the prefill, the third less the second N decode steps, so that set-up cancels
out; overhead, prefill and decode come from the best of each call over the repeats, and again from
the median of each (a difference within one repeat would be at the mercy of noise). The three take
turns, repeat by repeat. CPU time is that of the whole process, all threads. Other work on the
machine disturbs wall time most, ratios of CPU time least.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

import fairlead
from fairlead.engine import EngineConfig, load
from fairlead.engine.models import read_facts, resolve_model
from fairlead.instance.sequence import Sequence as Seq
from fairlead.model import Request, RequestId, Row, RowKind, Sampling

Prompts = list[list[int]]
Produce = Callable[[Prompts, int], Prompts]
"""Continues every prompt by so many tokens."""


@dataclass(frozen=True)
class Size:
    """What is measured."""

    batches: tuple[int, ...] = (1, 8, 32)
    prompt_tokens: int = 128
    new_tokens: int = 32
    repeats: int = 5
    step_tokens: int = 2048
    """Most prompt tokens that one step may compute, for those that plan steps."""


CLOCKS = ("cpu", "wall")
SMALL = Size(batches=(1, 3), prompt_tokens=24, new_tokens=4, repeats=1)


def tiny_llama(folder: Path) -> Path:
    """A random Llama of 4 layers x 256, about 5 million parameters."""
    config = transformers.LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    model.save_pretrained(folder)
    return folder


def fairlead_engine(folder: Path, size: Size, dtype: str) -> Produce:
    config = EngineConfig(str(folder), dtype=dtype, device="cpu", n_blocks=_n_blocks(size, 16))
    engine = load(config)

    def produce(prompts: Prompts, n_new: int) -> Prompts:
        sequences = {seq.id: seq for seq in _sequences(prompts, n_new)}
        free = iter(range(engine.n_blocks))
        for seq in sequences.values():
            n_tokens = len(seq.token_ids) + n_new
            seq.blocks = [next(free) for _ in range(-(-n_tokens // engine.block_tokens))]
        while rows := _plan(list(sequences.values()), n_new, size.step_tokens):
            _commit(rows, engine.run(rows, sequences).tokens, sequences)
        return [seq.token_ids[seq.prompt_tokens :] for seq in sequences.values()]

    return produce


def _sequences(prompts: Prompts, n_new: int) -> list[Seq]:
    sampling = Sampling(temperature=0.0, ignore_eos=True)
    return [
        Seq(
            Request(RequestId(f"r{i}"), 0.0, len(ids), n_new, sampling=sampling, token_ids=ids),
            attempt=1,
            produced=(),
            queued=i,
        )
        for i, ids in enumerate(prompts)
    ]


def _plan(sequences: list[Seq], n_new: int, budget: int) -> list[Row]:
    """Prefill in order of arrival within the budget; when all prompts are done, decode."""
    rows = []
    for seq in sequences:
        n = min(seq.n_known - seq.n_computed, budget)
        if seq.n_produced == 0 and n > 0:
            samples = seq.n_computed + n == seq.n_known
            rows.append(Row(seq.id, RowKind.PREFILL, seq.n_computed, n, samples))
            budget -= n
    return rows or [
        Row(seq.id, RowKind.DECODE, seq.n_computed, 1, True)
        for seq in sequences
        if seq.n_produced < n_new
    ]


def _commit(rows: list[Row], tokens: dict[RequestId, int], sequences: dict[RequestId, Seq]) -> None:
    for row in rows:
        seq = sequences[row.request]
        seq.n_computed += row.n
        if row.samples:
            seq.token_ids.append(tokens[row.request])
            seq.n_known += 1


def generate(folder: Path, size: Size, dtype: str) -> Produce:
    model = _transformers_model(folder, dtype)

    def produce(prompts: Prompts, n_new: int) -> Prompts:
        ids = torch.tensor(prompts)
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n_new,
            do_sample=False,
            eos_token_id=-1,
            pad_token_id=0,
        )
        continued: Prompts = out[:, ids.shape[1] :].tolist()
        return continued

    return produce


def generate_batch(folder: Path, size: Size, dtype: str) -> Produce:
    model = _transformers_model(folder, dtype)
    batching = ContinuousBatchingConfig(
        page_size=256,
        num_blocks=_n_blocks(size, 256),
        max_batch_tokens=size.step_tokens,
        allow_block_sharing=False,
    )

    def produce(prompts: Prompts, n_new: int) -> Prompts:
        results = model.generate_batch(
            prompts,
            generation_config=GenerationConfig(
                max_new_tokens=n_new, do_sample=False, eos_token_id=-1, pad_token_id=0
            ),
            continuous_batching_config=batching,
            persistent_manager=True,
            warmup=False,
            max_new_tokens=n_new,
        )
        return [list(result.generated_tokens) for result in results.values()]

    return produce


def _transformers_model(folder: Path, dtype: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return model.eval()


def _n_blocks(size: Size, block_tokens: int) -> int:
    n_tokens = size.prompt_tokens + size.new_tokens + 1
    return max(size.batches) * (-(-n_tokens // block_tokens) + 1)


CONTENDERS = {
    "fairlead": fairlead_engine,
    "generate_batch": generate_batch,
    "generate": generate,
}


def timed(produce: Produce, prompts: Prompts, n_new: int) -> tuple[Prompts, float, float]:
    """What came out, CPU seconds, wall seconds."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    out = produce(prompts, n_new)
    return out, time.process_time() - cpu_s, time.perf_counter() - wall_s


def measure(contenders: dict[str, Produce], size: Size, vocab_size: int) -> list[dict[str, Any]]:
    """One record a batch size and contender."""
    records = []
    for batch in size.batches:
        rng = random.Random(batch)
        prompts = [
            [rng.randrange(vocab_size) for _ in range(size.prompt_tokens)] for _ in range(batch)
        ]
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        outputs: dict[str, Prompts] = {}
        for produce in contenders.values():
            produce(prompts, 2)  # warm
        for _ in range(size.repeats):
            for name, produce in contenders.items():
                outputs[name], sample = _sample(produce, prompts, size)
                samples[name].append(sample)
        records += [
            {
                "contender": name,
                "batch": batch,
                **_summary(samples[name], batch, size),
                "equal_to_generate": outputs[name] == outputs["generate"],
                "digest": hashlib.sha256(repr(outputs[name]).encode()).hexdigest()[:12],
            }
            for name in contenders
        ]
    return records


def _sample(produce: Produce, prompts: Prompts, size: Size) -> tuple[Prompts, dict[str, float]]:
    """Seconds of the three calls of one repeat, by both clocks."""
    _, *start_s = timed(produce, [ids[:1] for ids in prompts], 1)
    _, *first_s = timed(produce, prompts, 1)
    out, *last_s = timed(produce, prompts, 1 + size.new_tokens)
    sample = {}
    for clock, start, first, last in zip(CLOCKS, start_s, first_s, last_s, strict=True):
        sample |= {f"start_{clock}": start, f"first_{clock}": first, f"last_{clock}": last}
    return out, sample


def _summary(
    samples: Sequence[dict[str, float]], batch: int, size: Size
) -> dict[str, float | None]:
    """Seconds of overhead and tokens per second, from the best and the median of each call."""
    found: dict[str, float | None] = {}
    for clock in CLOCKS:
        for name, pick in (("best", min), ("median", median)):
            start, first, last = (
                pick([sample[f"{call}_{clock}"] for sample in samples])
                for call in ("start", "first", "last")
            )
            prefilled, decoded = batch * (size.prompt_tokens - 1), batch * size.new_tokens
            found[f"overhead_{clock}_{name}"] = start
            found[f"prefill_{clock}_{name}"] = _rate(prefilled, first - start)
            found[f"decode_{clock}_{name}"] = _rate(decoded, last - first)
    return found


def _rate(n_tokens: int, seconds: float) -> float | None:
    """None where noise has swallowed the difference."""
    return n_tokens / seconds if seconds > 0 else None


def print_table(records: list[dict[str, Any]]) -> None:
    print("tokens/s: best (median); x = fairlead's best over this one's; call = overhead of a call")
    for clock in CLOCKS:
        title = f"{clock} time"
        head = f"\n{title:<16}{'batch':>5}{'decode':>17}{'x':>6}{'prefill':>19}{'x':>6}"
        print(f"{head}{'call':>9}  equal")
        for record in records:
            ours = _ours(records, record["batch"])
            cells = [f"{record['contender']:<16}{record['batch']:>5}"]
            for phase, width in ((f"decode_{clock}", 17), (f"prefill_{clock}", 19)):
                cells += [f"{_cell(record, phase):>{width}}", f"{_ratio(ours, record, phase):>6}"]
            cells.append(f"{record[f'overhead_{clock}_best'] * 1e3:>6.1f} ms")
            print("".join(cells) + ("  yes" if record["equal_to_generate"] else "  NO"))


def _cell(record: dict[str, Any], phase: str) -> str:
    best, middle = (
        "-" if rate is None else f"{rate:.0f}"
        for rate in (record[f"{phase}_best"], record[f"{phase}_median"])
    )
    return f"{best} ({middle})"


def _ratio(ours: dict[str, Any], record: dict[str, Any], phase: str) -> str:
    pair = ours[f"{phase}_best"], record[f"{phase}_best"]
    return "-" if None in pair else f"{pair[0] / pair[1]:.2f}"


def _ours(records: list[dict[str, Any]], batch: int) -> dict[str, Any]:
    return next(r for r in records if r["batch"] == batch and r["contender"] == "fairlead")


def parameters(args: argparse.Namespace, size: Size, folder: Path) -> dict[str, Any]:
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    config = json.loads((folder / "config.json").read_text())
    names = ("model_type", "num_hidden_layers", "hidden_size", "vocab_size")
    return {
        "model": args.model or "tiny random Llama",
        "shape": {name: config[name] for name in names},
        "dtype": args.dtype,
        "threads": args.threads,
        **asdict(size),
        "fairlead": fairlead.__version__,
        "commit": commit or "unknown",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="a folder in Hugging Face format (default: made here)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt-tokens", type=int, default=Size.prompt_tokens)
    parser.add_argument("--new-tokens", type=int, default=Size.new_tokens)
    parser.add_argument("--repeats", type=int, default=Size.repeats)
    parser.add_argument("--small", action="store_true", help="a size that takes seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    size = SMALL
    if not args.small:
        size = Size(
            prompt_tokens=args.prompt_tokens, new_tokens=args.new_tokens, repeats=args.repeats
        )
    torch.set_num_threads(args.threads)
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as made:
        folder = resolve_model(args.model) if args.model else tiny_llama(Path(made))
        about = parameters(args, size, folder)
        print("\n".join(f"{name}: {value}" for name, value in about.items()) + "\n")
        contenders = {name: make(folder, size, args.dtype) for name, make in CONTENDERS.items()}
        records = measure(contenders, size, read_facts(folder).vocab_size)
    print_table(records)
    if args.json:
        args.json.write_text(json.dumps({"parameters": about, "records": records}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
