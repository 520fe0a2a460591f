"""What became of each request: one record, and a million of them in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from itertools import pairwise
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.model import BATCH, Objective

NAN = float("nan")
_Key = TypeVar("_Key")


class Ending(Enum):
    """How a request ended. One that never ended counts as failed."""

    FINISHED = "finished"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    FAILED = "failed"


ENDINGS = tuple(Ending)
_PLACE_OF_ENDING = {ending: place for place, ending in enumerate(ENDINGS)}


class RequestRecord(Struct, frozen=True, gc=False):
    """A request's life as its client saw it. Times are seconds on one clock for the whole run."""

    id: str
    arrival_s: float
    ending: Ending
    objective: Objective = BATCH
    """What it was promised; its name is the class."""
    tenant: str = ""
    program: str | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    ended_s: float | None = None
    """When it ended, where that is not its last token: a rejection, a failure."""
    token_times_s: Sequence[float] = ()
    """When each token came, where the run knows; only gaps between tokens need it."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    """Tokens its client received."""
    cached_tokens: int | None = None
    """Prompt tokens found in a prefix cache; None where nobody said."""
    queue_s: float | None = None
    """Seconds from arrival to its first step, where the run knows."""
    why: str = ""
    """Why it did not finish."""
    resumed: bool = False
    """It went on at its next token on another instance."""
    instance: str = ""
    predicted_ttft_s: float | None = None
    """As predicted when it was first sent to an instance, where the run knows; so is the next."""
    predicted_e2e_s: float | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Records as arrays of equal length; times that are not known are NaN."""

    arrival_s: NDArray[np.float64]
    first_s: NDArray[np.float64]
    last_s: NDArray[np.float64]
    ended_s: NDArray[np.float64]
    """The last moment anything happened to it; its arrival where nothing did."""
    queue_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    cached_tokens: NDArray[np.float64]
    predicted_ttft_s: NDArray[np.float64]
    predicted_e2e_s: NDArray[np.float64]
    ending: NDArray[np.int64]
    """Index into `ENDINGS`."""
    resumed: NDArray[np.bool_]
    objective: NDArray[np.int64]
    """Index into `objectives`; so are the next two into their names, -1 for none."""
    tenant: NDArray[np.int64]
    program: NDArray[np.int64]
    objectives: tuple[Objective, ...]
    tenants: tuple[str, ...]
    programs: tuple[str, ...]
    gaps_s: NDArray[np.float64]
    """Gaps between tokens of one request, of all requests that know them."""

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def finished(self) -> NDArray[np.bool_]:
        finished: NDArray[np.bool_] = self.ending == ENDINGS.index(Ending.FINISHED)
        return finished

    @property
    def ttft_s(self) -> NDArray[np.float64]:
        return self.first_s - self.arrival_s

    @property
    def e2e_s(self) -> NDArray[np.float64]:
        """Of finished requests; NaN for the others."""
        return np.where(self.finished, self.last_s - self.arrival_s, NAN)

    @property
    def tpot_s(self) -> NDArray[np.float64]:
        """(last token - first token) / (tokens - 1); NaN for fewer than two tokens."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1, NAN)
        return (self.last_s - self.first_s) / gaps

    @property
    def met(self) -> NDArray[np.bool_]:
        """Finished, and every promise kept: `Objective.met` for all requests at once. Without a
        first token there is no keeping one that promises it."""
        kept = self.finished.copy()
        tpot = np.where(np.isnan(self.tpot_s), 0.0, self.tpot_s)
        for name, value in (("ttft_s", self.ttft_s), ("tpot_s", tpot), ("deadline_s", self.e2e_s)):
            promised = np.array([getattr(o, name) or np.inf for o in self.objectives])
            if len(promised):
                limit = promised[self.objective]
                kept &= np.isinf(limit) | (value <= limit)
        return kept

    def only(self, mask: NDArray[np.bool_]) -> Columns:
        """The records of the mask. Gaps between tokens belong to no record and stay."""
        rows = {
            field.name: getattr(self, field.name)[mask]
            for field in fields(self)
            if isinstance(getattr(self, field.name), np.ndarray) and field.name != "gaps_s"
        }
        return Columns(
            **rows,
            objectives=self.objectives,
            tenants=self.tenants,
            programs=self.programs,
            gaps_s=self.gaps_s,
        )


PACKED = 4096
"""Records that wait to be packed into columns together."""


class RecordColumns:
    """Takes records one by one and keeps about 130 bytes of each."""

    def __init__(self, records: Iterable[RequestRecord] = ()) -> None:
        self._waiting: list[RequestRecord] = []
        self._packed: list[dict[str, NDArray[Any]]] = []
        self._n = 0
        self._objectives: dict[Objective, int] = {}
        self._tenants: dict[str, int] = {}
        self._programs: dict[str, int] = {}
        for record in records:
            self.append(record)

    def __len__(self) -> int:
        return self._n

    def append(self, record: RequestRecord) -> None:
        self._n += 1
        self._waiting.append(record)
        if len(self._waiting) >= PACKED:
            self._pack()

    def columns(self) -> Columns:
        """All records so far, as arrays of their own."""
        self._pack()
        names = self._packed[0]
        arrays = {name: np.concatenate([part[name] for part in self._packed]) for name in names}
        return Columns(
            **arrays,
            objectives=tuple(self._objectives),
            tenants=tuple(self._tenants),
            programs=tuple(self._programs),
        )

    def take(self) -> Columns:
        """All records since the last `take`."""
        columns = self.columns()
        self._packed.clear()
        self._n = 0
        return columns

    def _pack(self) -> None:
        records = self._waiting
        if not records and self._packed:
            return
        numbers = {name: _numbers(records, name) for name in _NUMBERS}
        numbers["ended_s"] = np.array([_last_known(record) for record in records], np.float64)
        gaps = [b - a for record in records for a, b in pairwise(record.token_times_s)]
        endings = [_PLACE_OF_ENDING[record.ending] for record in records]
        objectives = [_place(self._objectives, record.objective) for record in records]
        tenants = [_place(self._tenants, r.tenant) if r.tenant else -1 for r in records]
        programs = [
            -1 if record.program is None else _place(self._programs, record.program)
            for record in records
        ]
        self._packed.append(
            {
                **numbers,
                "ending": np.array(endings, np.int64),
                "resumed": np.array([record.resumed for record in records], np.bool_),
                "objective": np.array(objectives, np.int64),
                "tenant": np.array(tenants, np.int64),
                "program": np.array(programs, np.int64),
                "gaps_s": np.array(gaps, np.float64),
            }
        )
        records.clear()


_NUMBERS = {
    "arrival_s": "arrival_s",
    "first_s": "first_token_s",
    "last_s": "last_token_s",
    "queue_s": "queue_s",
    "prompt_tokens": "prompt_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "cached_tokens",
    "predicted_ttft_s": "predicted_ttft_s",
    "predicted_e2e_s": "predicted_e2e_s",
}
"""Name of a column, and of the field of a record; a None becomes NaN."""


def _numbers(records: Sequence[RequestRecord], column: str) -> NDArray[np.float64]:
    field = attrgetter(_NUMBERS[column])
    return np.array([field(record) for record in records], np.float64)


def _last_known(record: RequestRecord) -> float:
    for moment in (record.ended_s, record.last_token_s, record.first_token_s):
        if moment is not None:
            return moment
    return record.arrival_s


def _place(known: dict[_Key, int], key: _Key) -> int:
    return known.setdefault(key, len(known))
