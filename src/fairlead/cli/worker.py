"""`fairlead worker`: one instance that dials a gateway."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from fairlead.model import ConfigError
from fairlead.worker.opaque.worker import OpaqueWorker
from fairlead.worker.parent import follow_parent
from fairlead.worker.settings import ENGINES, WorkerSettings
from fairlead.worker.worker import Worker

TOKEN_VARIABLE = "FAIRLEAD_TOKEN"

EXAMPLE = """\
example, beside a `fairlead serve` that printed its address for workers and its token:
  FAIRLEAD_TOKEN=... fairlead worker --join 127.0.0.1:8001 --model fairlead-nano \\
      --engine embedded --threads 1
and in front of a vLLM that runs already:
  FAIRLEAD_TOKEN=... fairlead worker --join 127.0.0.1:8001 --model ./my-model \\
      --engine openai --url http://127.0.0.1:9000 --served-as my-model

or as the fleet file describes a pool; options that are given go before what it says:
  fairlead worker --join gateway:8001 --fleet fleet.toml --pool chat --token-file token

The first Ctrl-C (or SIGTERM) has the gateway hand off what is inside, finishes the rest and leaves;
a second one leaves at once.
Exit status: 0 drained, 1 stopped or sent away by the gateway, 2 could not run.

Several embedded workers on one machine each need their share of the cores (--threads); OpenMP's
threads are told to wait passively unless OMP_WAIT_POLICY says otherwise.
"""

HELP = {
    "join": "HOST:PORT of the gateway's port for workers",
    "model": "fairlead-nano, a local folder in Hugging Face format, or a hub name",
    "engine": "what runs the steps",
    "hardware": "a latency profile, by name or file; auto measures the engine at start",
    "name": "what the instance would like to be called",
    "pool": "the pool it belongs to",
    "role": "mixed, prefill or decode",
    "batching": "the batching policy, see `fairlead policies`",
    "seed": "seed of the batching policy",
    "threads": "CPU threads of the engine (embedded, vllm)",
    "dtype": "auto, float32 or bfloat16 (embedded, vllm)",
    "device": "auto, cpu or cuda (embedded)",
    "block_tokens": "tokens of a KV block",
    "n_blocks": "KV blocks; the default follows from --kv-bytes, or from the hardware",
    "kv_bytes": "bytes of KV memory",
    "max_sequences": "sequences that may share one step",
    "max_waiting": "sequences that may wait inside",
    "max_context": "tokens of prompt and output together; the default is the model's own limit",
    "speed": "an emulated engine runs so many times faster than its profile",
    "effect": "how an emulated engine runs its steps: none, nanoflow or semi-pd",
    "url": "of an OpenAI-compatible server (openai)",
    "api_key_file": "a file with the key that the server wants (openai)",
    "served_as": "the model's name at the server, where it is another one (openai)",
    "tokenizer": "folder or hub name of the model's tokenizer, where --model is neither (openai)",
    "prompts": "what prompts are sent as: auto, tokens, text or chat (openai)",
    "kv_events": "where the server publishes events of its cache (openai)",
    "kv_replay": "where it repeats them (openai)",
    "first_token_timeout_s": "a stream without a token for so long goes elsewhere (openai)",
    "next_token_timeout_s": "the same once it has begun (openai)",
    "tls_ca": "certificate authorities, one of which the gateway's certificate must be of; empty "
    "speaks no TLS",
    "tls_cert": "the certificate that the gateway is shown, where it wants one",
    "tls_key": "the key of that",
    "tls_peers_ca": "certificate authorities of other workers, for hand-offs; empty takes tls_ca's",
    "step_log": "a CSV file for the shape and the duration of every step, to fit a profile to",
}
PARAMS = ("batching_params", "effect_params", "engine_args")
METAVARS = {
    "join": "HOST:PORT",
    "hardware": "PROFILE",
    "api_key_file": "FILE",
    "tls_ca": "FILE",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "tls_peers_ca": "FILE",
    "kv_events": "tcp://HOST:PORT",
    "kv_replay": "tcp://HOST:PORT",
}
TYPES = {
    "seed": int,
    "threads": int,
    "block_tokens": int,
    "n_blocks": int,
    "kv_bytes": int,
    "max_sequences": int,
    "max_waiting": int,
    "max_context": int,
    "speed": float,
    "first_token_timeout_s": float,
    "next_token_timeout_s": float,
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "worker",
        help="one instance that dials a gateway",
        description="One instance that dials a gateway.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = {field.name: field for field in dataclasses.fields(WorkerSettings)}
    for name, text in HELP.items():
        field = defaults[name]
        required = field.default is dataclasses.MISSING
        shown = "" if required or field.default in (None, "") else f" (default {field.default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            required=name == "join",
            default=argparse.SUPPRESS,
            type=TYPES.get(name, str),
            choices=ENGINES if name == "engine" else None,
            metavar=METAVARS.get(name),
            help=text + shown,
        )
    for name in ("batching", "effect"):
        parser.add_argument(
            f"--{name}-params",
            default=argparse.SUPPRESS,
            metavar="JSON",
            help=f"parameters of --{name}",
        )
    parser.add_argument(
        "--engine-args",
        default=argparse.SUPPRESS,
        metavar="JSON",
        help="more arguments of vLLM's own (vllm)",
    )
    parser.add_argument(
        "--fleet",
        type=Path,
        metavar="FLEET.toml",
        help="what the worker is, as this file says of its pool; --pool may be left out where the "
        "file has one",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"holds the fleet's token; without it the variable {TOKEN_VARIABLE} does",
    )
    parser.add_argument("--parent-pipe", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # Waiting threads that spin make workers that share cores many times slower; OpenMP reads this
    # when torch is imported, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    token = follow_parent() if args.parent_pipe else _token(args.token_file)
    # Imported late: a mistake in the arguments is told without loading what they ask for.
    settings = _settings(args)
    from fairlead.worker.start import build_worker

    # A loop that is half the cost, where passing on what a server says is all there is to do.
    run_loop = uvloop.run if settings.engine == "openai" else asyncio.run
    return run_loop(_work(build_worker(settings, token, _tell)))


async def _work(worker: Worker | OpaqueWorker) -> int:
    task = asyncio.ensure_future(worker.run())
    calls = 0

    def leave() -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            task.cancel()
            return
        _tell("draining")
        worker.drain()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leave)
    try:
        dismissed = await task
    except asyncio.CancelledError:
        _tell("stopped")
        return 1
    if dismissed is None:
        _tell("drained")
        return 0
    _tell(f"the gateway said goodbye: {dismissed}")
    return 1


def _settings(args: argparse.Namespace) -> WorkerSettings:
    given = {name: getattr(args, name) for name in HELP if hasattr(args, name)}
    for name in PARAMS:
        if hasattr(args, name):
            given[name] = _params(f"--{name.replace('_', '-')}", getattr(args, name))
    if args.fleet is not None:
        # Imported late: most workers are started without.
        from fairlead.cli.fleet_file import read_fleet_file
        from fairlead.cli.pool_worker import setting_by_hand

        config, _ = read_fleet_file(args.fleet)
        return setting_by_hand(config, given.get("pool"), given)
    if "model" not in given:
        raise ConfigError("name the worker's --model, or a --fleet file that does")
    return WorkerSettings(**given)


def _params(option: str, text: str) -> Mapping[str, Any]:
    try:
        params = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{option} is not JSON ({error}): {text}") from error
    if not isinstance(params, dict):
        raise ConfigError(f'{option} must be a JSON object such as {{"x": 1}}, got {text}')
    return params


def _token(file: Path | None) -> str:
    """The fleet's secret; an empty one is left to the gateway to judge."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"cannot read the token file {str(file)!r}: {reason}") from error


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
