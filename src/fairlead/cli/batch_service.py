"""Files and batches of a gateway: the `[batches]` table of a fleet file."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.cli.tenant_database import database_place, open_at, read_tenants
from fairlead.fleet.config import FleetConfig
from fairlead.fleet.table import read_table
from fairlead.gateway.batches.config import BatchesConfig
from fairlead.gateway.config import GatewayConfig
from fairlead.model import ConfigError

if TYPE_CHECKING:
    from fairlead.gateway.app import Batches
    from fairlead.gateway.batches.sender import Sender

OWN_DATABASE = "batches.db"


def read_batches(config: FleetConfig) -> BatchesConfig:
    """Raises `ConfigError` where the table is wrong, or there is no class for its lines."""
    settings: BatchesConfig = read_table(BatchesConfig, config.batches, "batches")
    tier = settings.service_tier
    objective = config.objectives.get(tier)
    if objective is None or objective.timed:
        untimed = [name for name, other in config.objectives.items() if not other.timed]
        said = f"; {' and '.join(untimed)} would do" if untimed else ""
        raise ConfigError(
            f"batches.service_tier {tier!r} must be an objective class that promises no time{said}:"
            f" add [objectives.{tier}] with nothing in it, or name another"
        )
    return settings


def open_batches(config: FleetConfig, gateway: GatewayConfig) -> Callable[[Sender], Batches] | None:
    """Makes the part of a gateway that serves them; None where the file has no `[batches]` table.
    Raises `ConfigError`."""
    if not config.batches:
        return None
    settings = read_batches(config)
    try:
        from fairlead.gateway.batches.service import BatchService
        from fairlead.store.batches import BatchStore
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"batches need {error.name}, which is not installed: pip install 'fairlead[batches]'"
        ) from error
    _make_folder(Path(settings.folder))
    store = BatchStore(open_at(_place(config, settings), "batches"))

    def make(sender: Sender) -> Batches:
        return BatchService(
            settings,
            store,
            sender,
            socket.gethostname(),
            gateway.max_body_bytes,
            gateway.body_timeout_s,
        )

    return make


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"batches.folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"batches.folder {folder} is not ours to write in")


def _place(config: FleetConfig, settings: BatchesConfig) -> str:
    if settings.database:
        return settings.database
    if config.tenants:
        return database_place(read_tenants(config.tenants))
    return str(Path(settings.folder) / OWN_DATABASE)
