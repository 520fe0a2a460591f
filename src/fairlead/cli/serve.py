"""`fairlead serve`: the gateway and its local workers."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import signal
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import uvloop

from fairlead.cli import fleet_file
from fairlead.cli.batch_service import open_batches
from fairlead.cli.observers import Observers
from fairlead.cli.provisioners import check_provisioners, provisioners
from fairlead.cli.replaying import replays
from fairlead.cli.serve_settings import ServeSettings
from fairlead.cli.tenant_database import open_database, read_tenants
from fairlead.cli.voice import Voice, open_voice
from fairlead.fleet.config import FleetConfig
from fairlead.fleet.pool_config import PoolConfig
from fairlead.fleet.table import read_table
from fairlead.gateway.app import Gateway, calm_garbage_collector
from fairlead.gateway.checks.config import read_checks
from fairlead.gateway.config import GatewayConfig
from fairlead.gateway.served import ServedModel
from fairlead.gateway.tenants.door import Door
from fairlead.latency import load_profile
from fairlead.model import ConfigError, Resized
from fairlead.policies import registry
from fairlead.text import Tokenizer
from fairlead.worker.settings import IN_PROCESS

NANO = "fairlead-nano"
EXAMPLE = """\
example:
  fairlead serve examples/laptop.toml
  curl -N http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' -d '{
    "model": "fairlead-nano", "stream": true,
    "messages": [{"role": "user", "content": "Hello!"}]}'

SIGHUP reads the fleet file again and gives each pool the number of instances that it says now:
those that are too many hand off what they hold before they end.

The first Ctrl-C (or SIGTERM) drains: nothing new enters, what is under way ends. A second one
stops at once. Workers on other machines join with `fairlead worker --join`; give them the token
of [gateway] token_file, and let [gateway] workers_listen name an address they reach.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="run a gateway and its local workers",
        description="Serves the OpenAI API with a fleet of local workers.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fleet_file.add_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the policies' randomness")
    parser.add_argument("--quiet", action="store_true", help="say only what went wrong")


def run(args: argparse.Namespace) -> int:
    def read() -> FleetConfig:
        return fleet_file.read_fleet_file(args.fleet, args.set)[0]

    return uvloop.run(_serve(read, args.fleet, args.set, args.seed, args.quiet))


def gateway_settings(config: FleetConfig, token: str) -> tuple[GatewayConfig, ServeSettings]:
    """The `[gateway]` table as the two values it holds keys of."""
    mine = {field.name for field in fields(ServeSettings)}
    theirs = {key: value for key, value in config.gateway.items() if key not in mine}
    if "token" in theirs:
        raise ConfigError("gateway.token: a secret does not belong here; name a token_file")
    known = [f.name for f in (*fields(GatewayConfig), *fields(ServeSettings)) if f.name != "token"]
    for key in theirs:
        if key not in known:
            raise ConfigError(f"gateway has no key {key!r}{registry.suggest(key, known)}")
    checks = read_checks(theirs.pop("checks", ()))
    gateway = read_table(GatewayConfig, {**theirs, "token": token}, "gateway")
    gateway = replace(gateway, checks=checks)
    own = {key: value for key, value in config.gateway.items() if key in mine}
    return gateway, read_table(ServeSettings, own, "gateway")


def served_models(config: FleetConfig) -> dict[str, ServedModel]:
    """What each model's clients need to know. An emulated model speaks with the built-in
    tokenizer: one token a byte."""
    models: dict[str, ServedModel] = {}
    for pool in config.pools:
        emulated = pool.engine == "emulated"
        source = NANO if emulated else pool.tokenizer or pool.model
        tokenizer = Tokenizer.load(source)
        bytewise = source == NANO
        known = models.get(pool.model)
        context = _max_context(pool, tokenizer)
        models[pool.model] = ServedModel(
            name=pool.model,
            tokenizer=tokenizer,
            max_context=min(context, known.max_context) if known else context,
            block_tokens=pool.block_tokens,
            pools=(*(known.pools if known else ()), pool.name),
            text_ids=(32, 126) if bytewise else None,
            passes_chats=pool.prompts == "chat" or (known is not None and known.passes_chats),
            constrains_output=pool.engine in IN_PROCESS
            or (known is not None and known.constrains_output),
        )
    return models


def _max_context(pool: PoolConfig, tokenizer: Tokenizer) -> int:
    if pool.max_context is not None:
        return pool.max_context
    if pool.engine == "emulated":
        return load_profile(pool.hardware).max_context
    if tokenizer.max_context is None:
        raise ConfigError(f"pool {pool.name!r}: {pool.model} does not say its max_context; set it")
    return tokenizer.max_context


def _token(settings: ServeSettings) -> str:
    if not settings.token_file:
        return secrets.token_urlsafe(32)
    try:
        token = Path(settings.token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"gateway.token_file {settings.token_file}: {error.strerror}") from None
    if not token:
        raise ConfigError(f"gateway.token_file {settings.token_file} is empty")
    return token


def open_door(config: FleetConfig) -> Door | None:
    """Who knows the tenants: a database where the file has a `[tenants]` table. Raises
    `ConfigError`, of that table too."""
    if not config.tenants:
        return None
    if config.gateway.get("api_keys"):
        raise ConfigError(
            "gateway.api_keys and [tenants] are two lists of keys; make keys with `fairlead keys "
            "create` and leave api_keys out"
        )
    # Brings SQLAlchemy along, which most fleets do without.
    from fairlead.gateway.tenants.service import TenantService

    settings = read_tenants(config.tenants)
    return TenantService(open_database(settings), settings)


async def _serve(
    read: Callable[[], FleetConfig], path: Path, changes: Sequence[str], seed: int, quiet: bool
) -> int:
    config = read()
    _, settings = gateway_settings(config, token="not yet")
    check_provisioners(config, settings.max_workers)
    token = _token(settings)
    gateway_config, _ = gateway_settings(config, token)
    default_class = settings.default_class or config.workload.default
    about = {"fleet": path.stem, "policy": config.policy.names()}
    gateway = Gateway(
        gateway_config,
        config.fleet(seed),
        served_models(config),
        config.objectives,
        default_class,
        about,
        open_door(config),
        open_batches(config, gateway_config),
    )
    say = open_voice(settings.log_format, quiet)
    observers = Observers(gateway, settings, about, say)
    if settings.event_log and gateway.window is not None:
        log, flush = settings.event_log, observers.flush
        gateway.window.replays = replays(path, changes, config, log, flush)
    await gateway.start()
    calm_garbage_collector()
    try:
        workers = provisioners(
            config, settings, gateway, token, seed, say, gave_up=_GaveUp(gateway, say)
        )
    except ConfigError:
        await gateway.stop()
        await asyncio.to_thread(observers.close)
        raise
    gateway.driver.provisioner = workers
    hands = asyncio.create_task(workers.run())
    stop = _Stop()
    resize = _Resize(read, config, settings.max_workers, gateway, say)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, resize)
    try:
        operators = f", operators on {gateway.admin_url}" if gateway.admin_url else ""
        say.aloud(f"listening on {gateway.url}, workers on {gateway.workers_address}{operators}")
        await _until_ready(gateway, hands, stop, say)
        await _wait(hands, stop)
        if stop.asked:
            say.aloud("draining; Ctrl-C again stops at once")
            await _first(gateway.drain(settings.drain_s), stop.again.wait())
    finally:
        await gateway.stop()
        await workers.stop(grace_s=0.5 if stop.again.is_set() else 5.0)
        await asyncio.to_thread(observers.close)
        with contextlib.suppress(ConfigError):
            await hands
    if not stop.asked and hands.done() and (error := hands.exception()):
        raise error
    say.aloud("stopped")
    return 0


async def _until_ready(
    gateway: Gateway, hands: asyncio.Task[None], stop: _Stop, say: Voice
) -> None:
    while gateway.missing_pools() and not stop.asked and not hands.done():
        await asyncio.sleep(0.05)
    if not stop.asked and not hands.done():
        n = len(gateway.hub.pools)
        say.aloud(f"ready, {n} {'pool' if n == 1 else 'pools'}")


async def _wait(hands: asyncio.Task[None], stop: _Stop) -> None:
    """Until somebody asks to stop, or a worker cannot live. Workers that join from elsewhere are
    not ours to wait for, so that a fleet without local ones goes on."""
    while not stop.asked:
        if hands.done() and hands.exception() is not None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await stop.once.wait()


async def _first(*coroutines: Any) -> None:
    """Returns when one has ended; the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Stop:
    """SIGINT and SIGTERM: the first asks to drain, the second to stop."""

    def __init__(self) -> None:
        self.once = asyncio.Event()
        self.again = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signal)

    @property
    def asked(self) -> bool:
        return self.once.is_set()

    def _signal(self) -> None:
        (self.again if self.once.is_set() else self.once).set()


class _Resize:
    """SIGHUP: reads the fleet file again, and gives pools the numbers of instances that it says
    now. Nothing else of it is taken over."""

    def __init__(
        self,
        read: Callable[[], FleetConfig],
        config: FleetConfig,
        max_workers: int,
        gateway: Gateway,
        say: Voice,
    ) -> None:
        self._read = read
        self._max_workers = max_workers
        self._sizes = {pool.name: pool.instances for pool in config.pools}
        self._gateway = gateway
        self._say = say

    def __call__(self) -> None:
        try:
            config = self._read()
            check_provisioners(config, self._max_workers)
        except ConfigError as error:
            self._say.aloud(f"the fleet file is as it was to us: {error}")
            return
        for pool in config.pools:
            if pool.name not in self._sizes:
                self._say.aloud(f"pool {pool.name} is new; it needs a restart")
            elif pool.instances != self._sizes[pool.name]:
                self._say.aloud(f"pool {pool.name}: {pool.instances} instances from now on")
                self._sizes[pool.name] = pool.instances
                self._gateway.driver.handle(Resized(pool.name, pool.instances))


class _GaveUp:
    """A worker that cannot live ends a fleet that has no other, and is only reported by one that
    has."""

    def __init__(self, gateway: Gateway, say: Voice) -> None:
        self._gateway = gateway
        self._say = say

    def __call__(self, name: str, error: ConfigError) -> None:
        if not self._gateway.hub.workers:
            raise error
        self._say.aloud(f"going on without {name}: {error}")
