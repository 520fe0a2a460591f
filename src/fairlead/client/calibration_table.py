"""What a calibration found, in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from fairlead.client.calibrate.inferring import Way
from fairlead.latency.calibration import Calibration

WIDTH = 80


def print_calibration(console: Console, found: Calibration, way: Way) -> None:
    """The error on what was not fitted, by kind of step, and what other forms would have had."""
    table = Table(
        title=f"{found.name}, fitted to {found.n_fitted} points; on points not fitted:",
        title_justify="left",
    )
    table.add_column("steps")
    for name in ("points", "mean error", "P95 error", "bias"):
        table.add_column(name, justify="right")
    for name, error in [*found.errors.items(), *found.rejected.items()]:
        table.add_row(
            name if name in found.errors else f"all, by {name}",
            str(error.n_points),
            f"{error.mean_abs_pct:.1f} %",
            f"{error.p95_abs_pct:.1f} %",
            f"{error.bias_pct:+.1f} %",
        )
    console.print(table, width=WIDTH)
    console.print(
        f"beside its steps a request takes {1e3 * way.s:.2f} ms and {1e6 * way.s_per_token:.2f} us "
        "a prompt token:\n"
        f"[simulation] gateway_s = {way.s:.6f}, gateway_s_per_token = {way.s_per_token:.9f}",
        markup=False,
    )
