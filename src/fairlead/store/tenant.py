"""A tenant and its keys, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import Any

from fairlead.fleet.table import read_table
from fairlead.model import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
"""ASCII only: two names that look alike must not be two tenants."""
PERIODS = ("day", "month", "total")


class Role(Enum):
    USER = "user"
    ADMIN = "admin"
    """Sees what every tenant used."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """What a tenant may do. Where nothing is said, nothing is limited."""

    name: str
    enabled: bool = True
    """False: its keys are refused, until it is enabled again."""
    weight: float = 1.0
    """Twice the weight is twice the share of a fleet that is full."""
    models: tuple[str, ...] = ()
    """Those that it may use; empty: all."""
    tiers: tuple[str, ...] = ()
    """Objective classes that it may ask for by `service_tier`; empty: all."""
    default_tier: str = ""
    """That of requests that name none; empty: the fleet's."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Prompt and output tokens together."""
    max_concurrent: int | None = None
    """Answers under way at a time; each choice of a call is one."""
    budget_tokens: int | None = None
    """Prompt and output tokens together in each `budget_period`."""
    budget_period: str = "month"
    """day, month (of the UTC calendar) or total"""
    max_output_tokens: int | None = None
    """Longest answer: what a request may ask for, and gets where it does not say."""
    max_logprobs: int | None = None
    """Most alternatives for each token; 0: no log-probabilities at all."""
    share_prefixes: bool = False
    """Finds cached prompts of other tenants that share, and they find its own. Whoever shares can
    tell by the time of an answer what others have asked."""

    def __post_init__(self) -> None:
        problems = [*self._unsound()]
        if problems:
            raise ConfigError(f"tenant {self.name!r}: " + "; ".join(problems))

    def _unsound(self) -> list[str]:
        found = []
        if not NAME.fullmatch(self.name):
            found.append(
                "a name has up to 64 letters, digits and . _ @ - of ASCII, a letter or digit first"
            )
        if not 0 < self.weight < float("inf"):
            found.append(f"weight must be above 0, got {self.weight}")
        for name in ("requests_per_minute", "tokens_per_minute", "max_concurrent"):
            value = getattr(self, name)
            if value is not None and value < 1:
                found.append(f"{name} must be at least 1, got {value}")
        for name in ("budget_tokens", "max_logprobs"):
            value = getattr(self, name)
            if value is not None and value < 0:
                found.append(f"{name} must be at least 0, got {value}")
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            found.append(f"max_output_tokens must be at least 1, got {self.max_output_tokens}")
        if self.budget_period not in PERIODS:
            found.append(f"budget_period is day, month or total, got {self.budget_period!r}")
        if self.tiers and self.default_tier and self.default_tier not in self.tiers:
            found.append(f"default_tier {self.default_tier!r} is none of its tiers")
        return found

    def settings(self) -> dict[str, Any]:
        """Everything that is not at its default."""
        given = {field.name: getattr(self, field.name) for field in SETTINGS}
        return {f.name: given[f.name] for f in SETTINGS if given[f.name] != f.default}


SETTINGS = tuple(field for field in fields(Tenant) if field.default is not MISSING)
"""Everything but the name."""


def make_tenant(name: str, settings: Mapping[str, Any]) -> Tenant:
    """Raises `ConfigError` on unknown settings and on values that make no sense."""
    return read_table(Tenant, {**settings, "name": name}, f"tenant {name!r}")


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is known after the one time it was shown: by its digest."""

    id: str
    tenant: str
    role: Role
    digest: bytes
    label: str = ""
    created_s: float = 0.0
    """Seconds since 1970, like all times here."""
    expires_s: float | None = None
    revoked_s: float | None = None

    def is_valid(self, now_s: float) -> bool:
        return self.revoked_s is None and (self.expires_s is None or now_s < self.expires_s)
