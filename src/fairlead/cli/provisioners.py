"""The workers of a fleet file, and who starts them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fairlead.cli.pool_worker import worker_setting
from fairlead.cli.serve_settings import ServeSettings
from fairlead.cli.voice import Voice
from fairlead.fleet.config import FleetConfig
from fairlead.fleet.table import read_table
from fairlead.gateway.app import Gateway
from fairlead.model import ConfigError, Unplaced
from fairlead.worker.kept import KeptFleet
from fairlead.worker.kubernetes.settings import KubernetesSettings
from fairlead.worker.local import LocalFleet
from fairlead.worker.provisioner import Provisioner, Together
from fairlead.worker.ray.launcher import RayLauncher
from fairlead.worker.ray.settings import Needs, RaySettings, require_ray


def read_ray(config: FleetConfig) -> RaySettings:
    return read_table(RaySettings, config.ray, "ray")


def read_kubernetes(config: FleetConfig) -> KubernetesSettings:
    return read_table(KubernetesSettings, config.kubernetes, "kubernetes")


def check_provisioners(config: FleetConfig, max_workers: int) -> None:
    """Raises `ConfigError` where what pools want of this machine or of a cluster cannot be, as far
    as that is known without asking one."""
    n = sum(pool.instances for pool in config.pools if pool.provisioner == "local")
    if n > max_workers:
        raise ConfigError(
            f"the pools have {n} instances, and this machine runs {max_workers} at most; have "
            "fewer, let workers on other machines join (instances = 0), or raise "
            "gateway.max_workers"
        )
    used = {pool.provisioner for pool in config.pools}
    read_ray(config)
    read_kubernetes(config)
    for name in ("ray", "kubernetes"):
        if getattr(config, name) and name not in used:
            raise ConfigError(f'there is a [{name}] table, and no pool has provisioner = "{name}"')
    if "ray" in used:
        require_ray()


def provisioners(
    config: FleetConfig,
    settings: ServeSettings,
    gateway: Gateway,
    token: str,
    seed: int,
    say: Voice,
    gave_up: Callable[[str, ConfigError], None],
) -> Provisioner:
    """Who looks after the pools' workers, each kind after its own. `gateway` listens already.
    Raises `ConfigError`."""

    def unplaced(pool: str, n: int) -> None:
        gateway.driver.handle(Unplaced(pool, n))

    here = [pool for pool in config.pools if pool.provisioner == "local"]
    on_ray = [pool for pool in config.pools if pool.provisioner == "ray"]
    parts: dict[str, Provisioner] = {}
    if here or not on_ray:
        setting = partial(worker_setting, config, join=gateway.local_workers_address, seed=seed)
        parts["local"] = LocalFleet(
            [setting(pool.name, i) for pool in here for i in range(pool.instances)],
            token,
            tell=say.detail,
            gave_up=gave_up,
            more=setting,
            most=settings.max_workers,
        )
    if on_ray:
        setting = partial(worker_setting, config, join=gateway.workers_address, seed=seed)
        needs = {p.name: Needs(p.num_cpus, p.num_gpus, p.resources) for p in on_ray}
        parts["ray"] = KeptFleet(
            RayLauncher(read_ray(config), token, needs, gateway.workers_address),
            [setting(pool.name, i) for pool in on_ray for i in range(pool.instances)],
            tell=say.detail,
            gave_up=gave_up,
            more=setting,
            unplaced=unplaced,
        )
    if any(pool.provisioner == "kubernetes" for pool in config.pools):
        parts["kubernetes"] = _pods(config, say, unplaced)
    by_pool = {pool.name: parts[pool.provisioner] for pool in config.pools}
    return Together(list(parts.values()), by_pool)


def _pods(config: FleetConfig, say: Voice, unplaced: Callable[[str, int], None]) -> Provisioner:
    # aiohttp takes a while to load, and no other fleet needs it here.
    from fairlead.worker.kubernetes.api import ApiServer
    from fairlead.worker.kubernetes.pods import PodPool, Pods

    settings = read_kubernetes(config)
    pools = [
        PodPool(pool.name, pool.deployment or pool.name, pool.instances)
        for pool in config.pools
        if pool.provisioner == "kubernetes"
    ]
    return Pods(
        ApiServer(settings), pools, tell=say.aloud, unplaced=unplaced, check_s=settings.check_s
    )
