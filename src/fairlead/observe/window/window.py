"""The fleet as a window shows it: a picture that can be had at any moment, and whole history in
bounded memory.

Nothing is done per token but for the few requests that are followed, and nothing per request but
counting: the rest is read from the metrics and from the fleet when somebody looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairlead.model import Action, Event, Tick
from fairlead.observe.metrics import Metrics
from fairlead.observe.story import RequestStory
from fairlead.observe.window.classes import BIN_S, QUANTILES, Classes
from fairlead.observe.window.instances import InstanceRow, Instances
from fairlead.observe.window.lately import MARK_EVERY_S, LatelyCounted, Rates
from fairlead.observe.window.moves import MoveRow, Moves
from fairlead.observe.window.recent import Recent, RequestRow
from fairlead.observe.window.seen import SeenFleet
from fairlead.observe.window.tenants import Tenants

COLUMNS = {
    "instances": InstanceRow.__struct_fields__,
    "requests": RequestRow.__struct_fields__,
    "handoffs": MoveRow.__struct_fields__,
}
"""What the values of each row are."""


class Window:
    """An observer: show it every event with the actions that it brought; after the metrics."""

    def __init__(self, metrics: Metrics, fleet: SeenFleet) -> None:
        self._metrics = metrics
        self._fleet = fleet
        self._instances = Instances(fleet)
        self._classes = Classes(metrics)
        self._moves = Moves(fleet)
        self._recent = Recent(fleet)
        self._tenants = Tenants()
        metrics.ended.append(self._tenants.ended)
        self._rates = Rates()
        self._errors = {of: metrics.errors.of(of) for of in ("ttft", "e2e")}
        self._lately = {of: LatelyCounted(*both) for of, both in self._errors.items()}
        self._short = {of: LatelyCounted(short) for of, (_, short) in self._errors.items()}
        self._marked_s = 0.0

    def observe(self, event: Event, actions: Sequence[Action], now: float) -> None:
        if type(event) is Tick:
            self._pass_time(now)
        self._instances.observe(event, now)
        if actions:
            self._moves.observe(actions)
        self._recent.observe(event, actions, now)

    def story(self, id: str) -> RequestStory | None:
        """What happened to one of the latest requests; None where it was not followed."""
        return self._recent.story(id)

    def state(self, now: float) -> dict[str, Any]:
        """The whole picture. Times are seconds on the clock of `now`."""
        n_handoffs, handoffs = self._moves.rows()
        return {
            "now_s": round(now, 3),
            "bin_s": BIN_S,
            "columns": COLUMNS,
            "totals": self._totals(n_handoffs),
            "prediction": {of: self._error(of) for of in self._lately},
            "classes": self._classes.figures(),
            "bins": self._classes.bins(),
            "instances": self._instances.rows(now),
            "handoffs": handoffs,
            "tenants": self._tenants.figures(),
            "requests": self._recent.rows(),
        }

    def _pass_time(self, now: float) -> None:
        self._classes.pass_time(now)
        totals = self._metrics.totals()
        self._rates.add(now, [totals.arrived, totals.output_tokens, totals.prompt_tokens])
        if now - self._marked_s >= MARK_EVERY_S:
            self._marked_s = now
            for counted in (*self._lately.values(), *self._short.values()):
                counted.mark()

    def _totals(self, n_handoffs: int) -> dict[str, Any]:
        rates = self._rates.per_s() or [0.0, 0.0, 0.0]
        return {
            **self._metrics.totals()._asdict(),
            "queued": self._fleet.n_queued,
            "handoffs_under_way": n_handoffs,
            "draining": self._metrics.draining,
            "requests_per_s": round(rates[0], 2),
            "output_tokens_per_s": round(rates[1], 1),
            "prompt_tokens_per_s": round(rates[2], 1),
        }

    def _error(self, of: str) -> dict[str, Any]:
        """Of predictions made at dispatch that came true, or did not, in the last minute."""
        lately, n = self._lately[of], self._lately[of].n()
        found = {f"{p}_s": lately.quantile(q) for p, q in QUANTILES.items()}
        return {
            "n": n,
            **{name: value and round(value, 4) for name, value in found.items()},
            "too_short": round(self._short[of].n() / n, 3) if n else None,
        }
