"""What goes wrong in a run: the tables of a `FAULTS.toml`, as values.

Every table is one fault, or one kind of fault that comes again and again:

    [[death]]
    at_s = 60.0                  # once, here
    instance = "chat-1"          # left out: one that the seed draws

    [[stall]]
    every_s = 600.0              # drawn from the seed: each instance, every ten minutes on average
    for_s = 5.0
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import inf

from fairlead.model import ConfigError
from fairlead.policies.registry import suggest


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Once at a time, or again and again at times that the seed draws."""

    at_s: float | None = None
    """When it happens, once."""
    every_s: float | None = None
    """Mean time from one to the next, where it happens again and again."""
    from_s: float = 0.0
    """Of those that are drawn, none begins before,"""
    until_s: float = inf
    """and none after."""

    def __post_init__(self) -> None:
        if (self.at_s is None) == (self.every_s is None):
            raise ValueError("set either at_s (once) or every_s (again and again)")
        if self.at_s is not None and not 0 <= self.at_s < inf:
            raise ValueError(f"at_s must be at least 0, got {self.at_s:g}")
        if self.every_s is not None and not self.every_s > 0:
            raise ValueError(f"every_s must be positive, got {self.every_s:g}")
        if not 0 <= self.from_s < self.until_s:
            raise ValueError(f"from_s {self.from_s:g} must lie before until_s {self.until_s:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOne(Timed):
    """Befalls one instance."""

    instance: str = ""
    """Empty: one that the seed draws where it happens once, and each where it happens again and
    again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death(TimedOne):
    """An instance dies, with its queue and its KV memory; after `start_up_s` (of `[simulation]`)
    it is up again with nothing in it."""

    silent: bool = False
    """Nobody closes its connection (a machine that loses power): the gateway finds out when ten
    reports in a row have stayed away. Otherwise the end of the connection tells."""
    frames: str = "arrive"
    """arrive | lost: what becomes of the frames that were on their way."""
    restart: bool = True

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        _one_of("frames", self.frames, ("arrive", "lost"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave(TimedOne):
    """An instance is told to stop by somebody else than the gateway, and says so: it ends when
    there is nothing left inside, or when its time is up."""

    grace_s: float = 30.0
    """Its time."""
    restart: bool = True
    """After `start_up_s` it is up again with nothing in it."""

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        _positive("grace_s", self.grace_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(TimedOne):
    """An instance makes no progress for a while."""

    for_s: float
    process: bool = False
    """The whole process stands still, and neither reads nor reports; otherwise only its engine."""

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        _positive("for_s", self.for_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow(TimedOne):
    """The steps of an instance take longer than its latency model says."""

    for_s: float
    factor: float
    """How many times as long."""

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        _positive("for_s", self.for_s)
        _positive("factor", self.factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(TimedOne):
    """Nothing passes between the gateway and an instance. One that outlasts ten reports makes the
    gateway give the instance up, which lives on and joins again when it can."""

    for_s: float
    messages: str = "held"
    """held | lost: what becomes of messages in the meantime. TCP holds them."""

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        _positive("for_s", self.for_s)
        _one_of("messages", self.messages, ("held", "lost"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """A link that misbehaves. Probabilities are for each message; TCP only ever makes them late."""

    instance: str = ""
    """Empty: the links of every instance."""
    direction: str = "both"
    """both | to-fleet | to-instance"""
    from_s: float = 0.0
    until_s: float = inf
    lost: float = 0.0
    doubled: float = 0.0
    """It comes once more, a little later."""
    late: float = 0.0
    """It takes longer, and so does all that follows it."""
    reordered: float = 0.0
    """It takes longer, and what follows overtakes it."""
    late_s: float = 0.2
    """How much longer, on average."""

    def __post_init__(self) -> None:
        for name in ("lost", "doubled", "late", "reordered"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name):g}")
        _one_of("direction", self.direction, ("both", "to-fleet", "to-instance"))
        _positive("late_s", self.late_s)
        if not 0 <= self.from_s < self.until_s:
            raise ValueError(f"from_s {self.from_s:g} must lie before until_s {self.until_s:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRestart(Timed):
    """The gateway stops, and all its streams with it; a new one knows nothing of before."""

    for_s: float = 2.0
    """Until the new one listens."""

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        _positive("for_s", self.for_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class HangUp:
    """Clients leave before their answer is complete."""

    share: float
    """Of those that arrive in the window, 0 to 1."""
    after_s: float
    """How long they wait, on average."""
    from_s: float = 0.0
    until_s: float = inf

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be between 0 and 1, got {self.share:g}")
        _positive("after_s", self.after_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst(Timed):
    """For a while, requests arrive many times as fast as their trace says."""

    for_s: float
    factor: float = 10.0

    def __post_init__(self) -> None:
        Timed.__post_init__(self)
        _positive("for_s", self.for_s)
        _positive("factor", self.factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """A whole file of them, in the order in which they stand there."""

    death: tuple[Death, ...] = ()
    leave: tuple[Leave, ...] = ()
    stall: tuple[Stall, ...] = ()
    slow: tuple[Slow, ...] = ()
    partition: tuple[Partition, ...] = ()
    messages: tuple[Messages, ...] = ()
    gateway_restart: tuple[GatewayRestart, ...] = ()
    hang_up: tuple[HangUp, ...] = ()
    burst: tuple[Burst, ...] = ()

    def check_names(self, instances: Collection[str]) -> None:
        """Raises `ConfigError` where a fault befalls an instance that the fleet does not have."""
        problems = []
        for kind in ("death", "leave", "stall", "slow", "partition", "messages"):
            for i, fault in enumerate(getattr(self, kind), start=1):
                if fault.instance and fault.instance not in instances:
                    near = suggest(fault.instance, list(instances))
                    problems.append(f"{kind} {i}: no instance {fault.instance!r}{near}")
        if problems:
            raise ConfigError("\n".join(problems))


def _positive(name: str, value: float) -> None:
    if not 0 < value < inf:
        raise ValueError(f"{name} must be positive, got {value:g}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be {' or '.join(known)}, got {value!r}")
