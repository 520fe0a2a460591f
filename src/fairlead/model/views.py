"""What a policy may look at: read-only pictures of a request, a sequence, an instance.

None of them knows how long an answer will be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fairlead.model.ids import BlockHash, InstanceId, ProgramId, RequestId, TenantId
from fairlead.model.instance import Role
from fairlead.model.objective import Objective


class RequestView(Protocol):
    """A request before it is placed."""

    @property
    def id(self) -> RequestId: ...
    @property
    def arrival_s(self) -> float: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def objective(self) -> Objective: ...
    @property
    def tenant(self) -> TenantId: ...
    @property
    def user(self) -> str: ...
    @property
    def share_weight(self) -> float:
        """Of its tenant, where tenants share."""
        ...

    @property
    def priority(self) -> int: ...
    @property
    def program(self) -> ProgramId | None: ...
    @property
    def expected_output_tokens(self) -> int | None: ...
    @property
    def block_hashes(self) -> tuple[BlockHash, ...]: ...


class SequenceView(Protocol):
    """A request inside an instance."""

    @property
    def id(self) -> RequestId: ...
    @property
    def objective(self) -> Objective: ...
    @property
    def priority(self) -> int: ...
    @property
    def tenant(self) -> TenantId: ...
    @property
    def arrival_s(self) -> float: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def n_known(self) -> int:
        """Prompt and produced tokens."""
        ...

    @property
    def n_computed(self) -> int:
        """Of those, tokens whose KV is held."""
        ...

    @property
    def n_produced(self) -> int: ...
    @property
    def held_blocks(self) -> int: ...
    @property
    def first_token_s(self) -> float | None: ...
    @property
    def admitted(self) -> int:
        """Rank of its last admission: a later one is greater; 0 while it waits."""
        ...

    @property
    def queued(self) -> int:
        """Rank in the waiting queue by arrival here; a preempted sequence goes before all."""
        ...

    @property
    def n_preemptions(self) -> int: ...


class InstanceView(Protocol):
    """An instance as the fleet believes it to be now: its last report, what was sent to it since,
    and what it must have done in the meantime."""

    @property
    def id(self) -> InstanceId: ...
    @property
    def pool(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def price_per_hour(self) -> float: ...
    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def queued_tokens(self) -> int:
        """Prompt tokens promised and not yet computed."""
        ...

    @property
    def promised_tokens(self) -> int:
        """The same without what is computed of prompts that are not done: known without a look at
        what time has brought, so that a thousand instances can be asked."""
        ...

    @property
    def context_tokens(self) -> int: ...
    @property
    def available_blocks(self) -> int:
        """Blocks free or held only by cached prefixes, less what is promised."""
        ...

    @property
    def total_blocks(self) -> int: ...

    def cached_tokens(self, request: RequestView) -> int:
        """Leading prompt tokens of `request` whose KV is here."""
        ...

    def predicted_ttft_s(self, request: RequestView) -> float:
        """Seconds from now to the first token, if `request` were sent here now; of one that waits
        here, as those before it leave it."""
        ...

    def least_ttft_s(self, request: RequestView) -> float:
        """No more than `predicted_ttft_s`, and a fraction of what that costs: what is not cached is
        computed here, with nobody before it."""
        ...

    def added_s(self, request: RequestView) -> float:
        """Seconds by which computing `request`'s prompt here delays all who decode here."""
        ...

    def broken_paces(self, request: RequestView) -> float:
        """How many promised paces computing `request`'s prompt here is expected to break, those of
        requests that are here and its own."""
        ...

    def predicted_tpot_s(self, request: RequestView) -> float:
        """Seconds per output token after the first."""
        ...

    def predicted_e2e_s(self, request: RequestView) -> float:
        """Seconds from now to the last token, at the output length now expected of requests."""
        ...

    def yielding_s(self, request: RequestView) -> float:
        """Seconds of prompts that wait here and are computed in what time `request` and others that
        were promised something leave; 0 for one that was promised nothing itself."""
        ...


class PlacedView(Protocol):
    """A request that was sent to an instance."""

    @property
    def request(self) -> RequestView: ...
    @property
    def context_tokens(self) -> int:
        """Prompt and produced tokens."""
        ...

    @property
    def n_produced(self) -> int: ...
    @property
    def first_token_s(self) -> float | None:
        """When its client got the first token; None while there is none."""
        ...

    @property
    def is_moving(self) -> bool:
        """A hand-off of it is under way."""
        ...


class HostView(InstanceView, Protocol):
    """An instance with what is inside: what a rescheduling or scaling policy looks at."""

    @property
    def decoding(self) -> Sequence[PlacedView]:
        """Requests that make tokens here, in the order in which they began."""
        ...

    @property
    def queue(self) -> Sequence[PlacedView]:
        """Requests whose first token from here is still to come, in the order they were sent."""
        ...

    @property
    def draining(self) -> bool:
        """It takes nothing new, and should be emptied."""
        ...

    @property
    def block_tokens(self) -> int: ...
    @property
    def max_sequences(self) -> int: ...
    @property
    def preemptions(self) -> int:
        """Since it is up."""
        ...

    @property
    def n_moving(self) -> int:
        """Hand-offs from here and to here that are under way."""
        ...

    def stretch_s(self, context_tokens: int) -> float:
        """By how many seconds one more sequence of so many tokens makes each step here longer."""
        ...

    def handoff_s(self, context_tokens: int) -> float:
        """How long a hand-off of so many tokens' KV from here takes."""
        ...
