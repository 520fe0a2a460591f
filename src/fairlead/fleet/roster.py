"""Which instances there are, who of them begins requests, and who only takes them over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairlead.fleet.shadow import Shadow
from fairlead.model import InstanceId, Role


class Roster:
    """The fleet's instances, by id and by what they do for their model."""

    def __init__(self, models: Iterable[str]) -> None:
        """`models` are served even while no instance of theirs is up."""
        self.by_id: dict[InstanceId, Shadow] = {}
        self._begin: dict[str, list[Shadow]] = {model: [] for model in models}
        """Those to which requests are sent."""
        self._take_over: dict[str, list[Shadow]] = {}
        """Those that only decode what others have begun."""

    @property
    def models(self) -> Iterable[str]:
        return self._begin

    def serves(self, model: str) -> bool:
        return model in self._begin

    def add(self, shadow: Shadow) -> None:
        self.by_id[shadow.id] = shadow
        model = shadow.spec.model
        for group in (self._begin, self._take_over):
            group.setdefault(model, [])
        self._group(shadow)[model].append(shadow)

    def remove(self, instance: InstanceId) -> Shadow | None:
        """The instance that is gone; None where nobody knew it."""
        shadow = self.by_id.pop(instance, None)
        if shadow is not None:
            self._take_out(shadow)
        return shadow

    def set_role(self, shadow: Shadow, role: Role) -> None:
        """From now on it does this. What is on it stays."""
        self._take_out(shadow)
        shadow.role = role
        self._group(shadow)[shadow.spec.model].append(shadow)

    def beginners(self, model: str) -> Sequence[Shadow]:
        """Instances to which requests are sent: where nobody else is left, those that else only
        take over."""
        return self._begin[model] or self._take_over.get(model, ())

    def decoders(self, model: str) -> Sequence[Shadow]:
        """Instances for what others have begun: those that do nothing else, or where there are
        none, all that do both."""
        return self._take_over[model] or [
            shadow for shadow in self._begin[model] if shadow.role is not Role.PREFILL
        ]

    def takers(self, model: str) -> Sequence[Shadow]:
        """Instances that only take over."""
        return self._take_over.get(model, ())

    def of(self, model: str) -> list[Shadow]:
        """All of a model."""
        return [*self._begin[model], *self._take_over.get(model, ())]

    def _group(self, shadow: Shadow) -> dict[str, list[Shadow]]:
        return self._take_over if shadow.role is Role.DECODE else self._begin

    def _take_out(self, shadow: Shadow) -> None:
        """A new list: somebody may be walking over the old one."""
        group, model = self._group(shadow), shadow.spec.model
        group[model] = [other for other in group[model] if other is not shadow]
