"""What is inside a pool, counted."""

from __future__ import annotations

from fairlead.policies.scaling.parts import PoolView


def in_flight(pool: PoolView) -> int:
    """Requests that run, wait on an instance, or wait for one. A total: it grows with the load
    however full instances are, which a share of memory does not."""
    return pool.n_queued + sum(host.running + host.waiting for host in pool.hosts)


def size(pool: PoolView) -> int:
    """Instances, those that start counted."""
    return len(pool.hosts) + pool.n_starting
