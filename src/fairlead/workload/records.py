"""What became of each request: one record, and a million of them in columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import TypeVar

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
            name: getattr(self, name)[mask]
            for name in self.__slots__
            if isinstance(getattr(self, name), np.ndarray) and name != "gaps_s"
        }
        return Columns(
            **rows,
            objectives=self.objectives,
            tenants=self.tenants,
            programs=self.programs,
            gaps_s=self.gaps_s,
        )


class RecordColumns:
    """Takes records one by one and keeps about 100 bytes of each."""

    def __init__(self, records: Iterable[RequestRecord] = ()) -> None:
        self._numbers = {name: array("d") for name in _NUMBERS}
        self._indices = {name: array("q") for name in _INDICES}
        self._objectives: dict[Objective, int] = {}
        self._tenants: dict[str, int] = {}
        self._programs: dict[str, int] = {}
        self._gaps = array("d")
        self._append_number = [column.append for column in self._numbers.values()]
        self._append_index = [column.append for column in self._indices.values()]
        for record in records:
            self.append(record)

    def __len__(self) -> int:
        return len(self._indices["ending"])

    def append(self, record: RequestRecord) -> None:
        arrival, first, last, ended, queue, prompt, output, cached, ttft, e2e = self._append_number
        arrival(record.arrival_s)
        first(_or_nan(record.first_token_s))
        last(_or_nan(record.last_token_s))
        ended(_last_known(record))
        queue(_or_nan(record.queue_s))
        prompt(record.prompt_tokens)
        output(record.output_tokens)
        cached(_or_nan(record.cached_tokens))
        ttft(_or_nan(record.predicted_ttft_s))
        e2e(_or_nan(record.predicted_e2e_s))
        ending, resumed, objective, tenant, program = self._append_index
        ending(_PLACE_OF_ENDING[record.ending])
        resumed(record.resumed)
        objective(_place(self._objectives, record.objective))
        tenant(_place(self._tenants, record.tenant) if record.tenant else -1)
        program(-1 if record.program is None else _place(self._programs, record.program))
        times = record.token_times_s
        if len(times) > 1:
            self._gaps.extend(b - a for a, b in pairwise(times))

    def columns(self) -> Columns:
        """All records so far, as arrays of their own."""
        numbers = {name: np.array(values) for name, values in self._numbers.items()}
        indices = {name: np.array(values) for name, values in self._indices.items()}
        return Columns(
            **numbers,
            ending=indices["ending"],
            resumed=indices["resumed"].astype(np.bool_),
            objective=indices["objective"],
            tenant=indices["tenant"],
            program=indices["program"],
            objectives=tuple(self._objectives),
            tenants=tuple(self._tenants),
            programs=tuple(self._programs),
            gaps_s=np.array(self._gaps),
        )


_NUMBERS = (
    "arrival_s",
    "first_s",
    "last_s",
    "ended_s",
    "queue_s",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "predicted_ttft_s",
    "predicted_e2e_s",
)
_INDICES = ("ending", "resumed", "objective", "tenant", "program")


def _or_nan(value: float | None) -> float:
    return NAN if value is None else value


def _last_known(record: RequestRecord) -> float:
    for moment in (record.ended_s, record.last_token_s, record.first_token_s):
        if moment is not None:
            return moment
    return record.arrival_s


def _place(known: dict[_Key, int], key: _Key) -> int:
    return known.setdefault(key, len(known))
