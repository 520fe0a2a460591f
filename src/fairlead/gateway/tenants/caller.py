"""Who makes a call, and what of it they may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.model import RequestError
from fairlead.store.tenant import Role, Tenant

DEFAULT_TIERS = ("auto", "default")


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a key; or anybody, where there are no keys."""

    name: str = ""
    """The tenant's."""
    rules: Tenant | None = None
    """None: everything is allowed."""
    key_id: str = ""
    role: Role = Role.USER

    @property
    def salt(self) -> bytes:
        """What its prefixes are named with: tenants with one salt find each other's."""
        shares = self.rules is not None and self.rules.share_prefixes
        return b"" if shares else self.name.encode()

    @property
    def share_weight(self) -> float:
        return 1.0 if self.rules is None else self.rules.weight

    def may_use(self, model: str) -> bool:
        return self.rules is None or not self.rules.models or model in self.rules.models

    def check_model(self, model: str) -> None:
        if not self.may_use(model):
            assert self.rules is not None
            raise _forbidden(
                f"this key may not use the model {model!r}; it may use "
                f"{', '.join(self.rules.models)}",
                "model_not_allowed",
                "model",
            )

    def tier(self, asked: str | None, default: str) -> str:
        """The objective class of a request that asks for this one, where `default` is the fleet's.
        Who says nothing and may not have that gets the first that they may have."""
        if self.rules is None or not self.rules.tiers:
            usual = default if self.rules is None else self.rules.default_tier or default
            return usual if asked is None or asked in DEFAULT_TIERS else asked
        tiers = self.rules.tiers
        if asked is None or asked in DEFAULT_TIERS:
            return self.rules.default_tier or (default if default in tiers else tiers[0])
        if asked not in tiers:
            raise _forbidden(
                f"this key may not ask for service_tier {asked!r}; it may ask for "
                f"{', '.join(tiers)}",
                "service_tier_not_allowed",
                "service_tier",
            )
        return asked

    def check_own_times(self) -> None:
        """Whether it may promise itself times of its own, which would make a tier mean nothing."""
        if self.rules is not None and self.rules.tiers:
            raise _forbidden(
                "this key may choose among service tiers and not set times of its own; leave "
                "ttft_s, tpot_s and deadline_s out",
                "objective_not_allowed",
                "fairlead",
            )

    def priority(self, asked: int | None) -> int:
        """Where others share the fleet, nobody goes before them by saying so: the most urgent that
        a tenant can be is as urgent as everybody."""
        return asked or 0 if self.rules is None else max(asked or 0, 0)

    def check_logprobs(self, n: int | None, param: str) -> None:
        most = None if self.rules is None else self.rules.max_logprobs
        if n is None or most is None or (n <= most and most > 0):
            return
        said = f"at most {most} alternatives" if most else "no log-probabilities"
        raise _forbidden(f"this key gets {said}; ask for fewer", "logprobs_not_allowed", param)

    def max_tokens(self, asked: int | None, room: int) -> int:
        """The longest answer, of a request that asks for so many tokens and has room for some."""
        most = None if self.rules is None else self.rules.max_output_tokens
        if asked is None:
            return room if most is None else min(room, most)
        if most is not None and asked > most:
            raise _forbidden(
                f"this key gets answers of at most {most} tokens, and max_tokens={asked}; "
                "ask for fewer",
                "max_tokens_not_allowed",
                "max_tokens",
            )
        return asked


ANYBODY = Caller()


def _forbidden(message: str, code: str, param: str) -> RequestError:
    return RequestError(message, status=403, code=code, param=param, kind="permission_error")
