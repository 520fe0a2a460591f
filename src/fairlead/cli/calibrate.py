"""`fairlead calibrate`: measures an engine and fits a latency profile to it."""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console

from fairlead.cli.fleet_file import add_set, read_fleet_file
from fairlead.cli.served import served
from fairlead.cli.trace_arguments import above_0
from fairlead.client.calibrate.measure import Measured, listen_to_steps, listen_to_streams
from fairlead.client.calibrate.probing import Prober, prober_session
from fairlead.client.calibrate.waves import Room
from fairlead.client.calibration_table import print_calibration
from fairlead.client.load import read_page
from fairlead.client.out_file import OutFile, WriteError
from fairlead.client.progress import Bar
from fairlead.client.server import ask_server
from fairlead.fleet.config import FleetConfig
from fairlead.fleet.pool_config import PoolConfig
from fairlead.latency import Profile
from fairlead.latency.calibration import Calibration, calibrate
from fairlead.latency.profile_text import format_profile
from fairlead.model import ConfigError
from fairlead.text.folder import WEIGHT_FILES, model_folder
from fairlead.worker.step_log import StepTail

EXAMPLES = """\
examples:
  a worker of our own, as a fleet file describes it:
    fairlead calibrate --worker examples/laptop.toml --out laptop.profile.toml

  any OpenAI-compatible server, from when its tokens come (vLLM prints its KV tokens at its start):
    fairlead calibrate --url http://127.0.0.1:8000 --kv-tokens 200000 --out vllm.profile.toml

and then, on any laptop, with hardware = "laptop.profile.toml" in a pool of engine = "emulated":
    fairlead simulate azure-conv-slice --fleet FLEET.toml

A worker tells what each of its steps was and how long it took. Of a server only the tokens' times
are known: what a step costs in which prompts and decodes stand together is then taken from steps
that hold one or the other. Nothing else should use the engine or its machine meanwhile.
A third of the measurements is kept from the fit, and the stated error is the error on these.

exit status: 0 done; 1 interrupted, or the profile could not be written; 2 could not run.
"""
DONE, DOES_NOT_HOLD = 0, 1
GUESSED_KV_BYTES = 131_072
"""A token's KV of a model with 8 billion weights and grouped queries."""
WILD_PCT = 20.0
"""A mean error beyond which nobody should trust what was fitted."""
MEMORY_FRACTION = 0.9
"""As `Profile.n_blocks` takes it: what is left is nobody's."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help="measure an engine and fit a latency profile to it",
        description="Measures how long the steps of an engine take, and writes a latency profile "
        "that `simulate` and emulated engines use.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    measured = parser.add_mutually_exclusive_group(required=True)
    measured.add_argument(
        "--worker", metavar="FLEET.toml", type=Path, help="start one instance of this file's pool"
    )
    measured.add_argument("--url", help="a server that runs already, such as http://127.0.0.1:8000")
    parser.add_argument("--out", metavar="PROFILE.toml", type=Path, required=True)
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=60.0, help="of measuring, default 60"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the traffic's shapes, default 0")
    parser.add_argument("--quiet", action="store_true", help="no table and no progress")
    add_set(parser.add_argument_group("with --worker"))
    _add_server(parser.add_argument_group("with --url"))


def _add_server(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", metavar="NAME", help="default: the first that the server lists")
    group.add_argument(
        "--api-key", metavar="KEY", help="default: the environment's OPENAI_API_KEY, if any"
    )
    group.add_argument(
        "--max-sequences", metavar="N", type=int, default=32, help="streams at once, default 32"
    )
    group.add_argument(
        "--max-context", metavar="N", type=int, help="default: what the server says, else 4096"
    )
    group.add_argument(
        "--kv-tokens",
        metavar="N",
        type=int,
        help="tokens that the KV memory holds; default: max-sequences times max-context",
    )
    group.add_argument(
        "--kv-bytes-per-token",
        metavar="N",
        type=int,
        default=GUESSED_KV_BYTES,
        help=f"default {GUESSED_KV_BYTES}, as of an 8B model",
    )
    group.add_argument("--hardware", metavar="TEXT", default="unknown", help="what it runs on")


def run(args: argparse.Namespace) -> int:
    for name in ("seconds", "max_sequences", "max_context", "kv_tokens", "kv_bytes_per_token"):
        above_0(name.replace("_", "-"), getattr(args, name))
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    out = OutFile(args.out)
    try:
        with Bar(console, args.seconds, args.quiet) as bar:
            subject, measured = _worker(args, bar) if args.worker else _server(args, bar)
        found = calibrate(measured.fitted, measured.unseen)
        out.write(format_profile(subject.profile(args.out.stem, found)))
    except WriteError as error:
        console.print(f"error: {error}")
        return DOES_NOT_HOLD
    finally:
        out.give_up()
    if not args.quiet:
        print_calibration(Console(highlight=False), found, measured.way)
        console.print(f"wrote {args.out}")
    if found.errors["all"].mean_abs_pct > WILD_PCT:
        console.print(
            "warning: the profile tells steps badly that it was not fitted to; do not rely on it. "
            "Give --seconds more, and see that nothing else uses the engine or its machine"
        )
    return DONE


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured."""

    model: str
    hardware: str
    precision: str
    max_context: int
    kv_tokens: int
    kv_bytes_per_token: int
    weights_bytes: int
    source: str
    host_source: str
    note: str = ""

    @property
    def kv_bytes(self) -> int:
        return self.kv_tokens * self.kv_bytes_per_token

    def profile(self, name: str, found: Calibration) -> Profile:
        return Profile(
            name=name,
            gpu=self.hardware,
            model=self.model,
            precision=self.precision,
            tensor_parallel=1,
            # So much that its own KV memory is what fits beside the weights.
            gpu_memory_bytes=int((self.kv_bytes + self.weights_bytes) / MEMORY_FRACTION) + 1,
            weights_bytes=self.weights_bytes,
            kv_bytes_per_token=self.kv_bytes_per_token,
            max_context=self.max_context,
            coefficients=found.form.coefficients(),
            added={},
            errors=found.errors,
            end_to_end=None,
            source=self.source,
            licence="your own measurements",
            host_source=self.host_source,
            note=self.note,
        )


# ---------------------------------------------------------------- a worker of our own


def _worker(args: argparse.Namespace, bar: Bar) -> tuple[Subject, Measured]:
    """Starts the fleet file's pool with one instance whose steps are logged."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "steps.csv"
        changes = [
            *args.set,
            "pool.0.instances=1",
            f'pool.0.step_log="{log}"',
            "policy.admission=always",
            "policy.batching=fcfs",
        ]
        config, _ = read_fleet_file(args.worker, changes)
        pool = _only_pool(args.worker, config)
        with served(args.worker, changes) as url:
            return uvloop.run(_listen_to_worker(args, bar, url, pool, log))


def _only_pool(path: Path, config: FleetConfig) -> PoolConfig:
    if len(config.pools) > 1:
        names = ", ".join(pool.name for pool in config.pools)
        raise ConfigError(
            f"{path} has {len(config.pools)} pools ({names}); give a file with the one to measure"
        )
    pool = config.pools[0]
    if pool.engine == "openai":
        raise ConfigError(
            f"pool {pool.name!r} is somebody's server, whose steps nobody can look into; measure "
            f"it from outside with --url {pool.urls[0] if pool.urls else 'URL'}"
        )
    return pool


async def _listen_to_worker(
    args: argparse.Namespace, bar: Bar, url: str, pool: PoolConfig, log: Path
) -> tuple[Subject, Measured]:
    tail = StepTail(log)
    async with prober_session(None) as session:
        server = await ask_server(url, None, None)
        page = await read_page(session, f"{url}/metrics")
        assert page is not None  # The fleet is ready: it has metrics.
        (memory,) = page.instances.values()
        kv_tokens, kv_bytes = round(memory["kv_tokens"]), round(memory["kv_bytes_per_token"])
        context = min(server.max_context or kv_tokens, kv_tokens)
        measured = await listen_to_steps(
            Prober(session, server, args.seed),
            tail,
            Room(pool.max_sequences, context, kv_tokens),
            seconds=args.seconds,
            seed=args.seed,
            progress=bar.seconds,
        )
    subject = Subject(
        model=server.model,
        hardware=pool.hardware if pool.engine == "emulated" else pool.device,
        precision=pool.dtype,
        max_context=context,
        kv_tokens=kv_tokens,
        kv_bytes_per_token=max(kv_bytes, 1),
        weights_bytes=_weights_bytes(pool),
        source=f"fairlead calibrate --worker {args.worker.name}, {args.seconds:g} s",
        host_source="steps of the worker's own loop: planning, frames and sampling are in them",
    )
    return subject, measured


def _weights_bytes(pool: PoolConfig) -> int:
    """As they lie on the disk."""
    if pool.engine == "emulated":
        return 1
    folder = model_folder(pool.model)
    return max(sum(f.stat().st_size for glob in WEIGHT_FILES for f in folder.glob(glob)), 1)


# ---------------------------------------------------------------- somebody's server


def _server(args: argparse.Namespace, bar: Bar) -> tuple[Subject, Measured]:
    if args.set:
        raise ConfigError("--set changes a fleet file; it goes with --worker")
    return uvloop.run(_listen_to_server(args, bar))


async def _listen_to_server(args: argparse.Namespace, bar: Bar) -> tuple[Subject, Measured]:
    api_key = args.api_key or os.environ.get("OPENAI_API_KEY")
    server = await ask_server(args.url, api_key, args.model)
    context = args.max_context or server.max_context or 4096
    kv_tokens = args.kv_tokens or args.max_sequences * context
    async with prober_session(api_key) as session:
        # Nobody's prompts: those of an earlier calibration the server may have cached.
        prompts_seed = secrets.randbits(32)
        measured = await listen_to_streams(
            Prober(session, server, prompts_seed),
            Room(args.max_sequences, context, kv_tokens),
            seconds=args.seconds,
            seed=args.seed,
            progress=bar.seconds,
        )
    guesses = [] if args.kv_tokens else ["tokens of KV memory"]
    guesses += ["bytes of a token's KV"] if args.kv_bytes_per_token == GUESSED_KV_BYTES else []
    subject = Subject(
        model=server.model,
        hardware=args.hardware,
        precision="unknown",
        max_context=context,
        kv_tokens=kv_tokens,
        kv_bytes_per_token=args.kv_bytes_per_token,
        weights_bytes=1,
        source=f"fairlead calibrate --url, {args.seconds:g} s, from the times of tokens",
        host_source="times between tokens as a client saw them: the host's work is in them",
        note="; ".join(
            [
                "steps with prompts and decodes together were not measured",
                *(f"{guess} are a guess" for guess in guesses),
            ]
        ),
    )
    return subject, measured
