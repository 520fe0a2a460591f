"""What each tenant asked for and got, where requests have tenants."""

from __future__ import annotations

from typing import Any

from fairlead.model import Request, TenantId

MOST_TENANTS = 200
OTHERS = "others"
"""Tenants beyond the first many are counted together."""


class _Counts:
    __slots__ = ("met", "missed", "output_tokens", "prompt_tokens")

    def __init__(self) -> None:
        self.met = self.missed = self.prompt_tokens = self.output_tokens = 0


class Tenants:
    """Counts requests as they end."""

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = {}

    def ended(self, request: Request, met: bool, output_tokens: int) -> None:
        counts = self._of(request.tenant)
        counts.met += met
        counts.missed += not met
        counts.prompt_tokens += request.prompt_tokens
        counts.output_tokens += output_tokens

    def figures(self) -> dict[str, dict[str, Any]]:
        """By tenant; nothing at all while nobody has a name."""
        if not any(self._counts):
            return {}
        return {
            name: {field: getattr(counts, field) for field in _Counts.__slots__}
            for name, counts in self._counts.items()
        }

    def _of(self, tenant: TenantId) -> _Counts:
        name: str = tenant
        if name not in self._counts and len(self._counts) >= MOST_TENANTS:
            name = OTHERS
        return self._counts.setdefault(name, _Counts())
