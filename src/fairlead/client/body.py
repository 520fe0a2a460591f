"""The request that asks a server for one row of a trace."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from fairlead.client.server import Server
from fairlead.model import Objective
from fairlead.workload.objectives import TIME_FIELDS
from fairlead.workload.prompts import PromptMaker, Vocabulary, as_text
from fairlead.workload.trace import TraceRow

_encode = msgspec.json.Encoder().encode


class Api(Enum):
    """Which door of the server is used."""

    COMPLETIONS = "completions"
    """Prompts are token ids: lengths are exact."""
    CHAT = "chat"
    """Prompts are text: lengths are near, and a chat template is added."""

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self is Api.CHAT else "/v1/completions"


@dataclass(frozen=True, slots=True)
class Asking:
    """How rows become requests to this server."""

    server: Server
    api: Api
    prompts: PromptMaker
    vocabulary: Vocabulary
    seed: int = 0
    check_positions: bool = False
    send_tier: bool = False
    """Whether the class goes along as `service_tier`; servers that know no classes may refuse."""

    def body(self, row: TraceRow, objective: Objective, lap: int = 0) -> bytes:
        """The request's JSON: greedy, exactly the row's output length, streamed with usage."""
        fields: dict[str, Any] = {
            "model": self.server.model,
            **self._prompt(row, lap),
            "max_tokens": row.output_tokens,
            "min_tokens": row.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "seed": self.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if row.tenant:
            fields["user"] = row.tenant
        if self.send_tier and not self._unknown_to_gateway(objective):
            fields["service_tier"] = objective.name
        if self.server.is_fairlead:
            fields |= self._for_fairlead(row, objective, lap)
        return _encode(fields)

    def _prompt(self, row: TraceRow, lap: int) -> dict[str, Any]:
        ids = self.prompts.token_ids(row, lap)
        if self.api is Api.COMPLETIONS:
            return {"prompt": ids}
        return {"messages": [{"role": "user", "content": as_text(ids, self.vocabulary)}]}

    def _unknown_to_gateway(self, objective: Objective) -> bool:
        return self.server.is_fairlead and objective.name not in self.server.objectives

    def _for_fairlead(self, row: TraceRow, objective: Objective, lap: int) -> dict[str, Any]:
        """Hints that only our gateway takes. Other servers may refuse a priority."""
        hints: dict[str, Any] = {}
        if objective != self.server.objectives.get(objective.name):
            times = {name: getattr(objective, name) for name in TIME_FIELDS}
            hints |= {name: value for name, value in times.items() if value is not None}
        if row.program is not None:
            hints["program"] = row.program if lap == 0 else f"{row.program}#{lap}"
        if self.check_positions:
            hints["positions"] = True
        fields: dict[str, Any] = {"fairlead": hints} if hints else {}
        if row.priority is not None:
            fields["priority"] = row.priority
        return fields
