"""How far a mean over a few seeds can be trusted.

Paper: Student, "The Probable Error of a Mean", 1908.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# fmt: off
T_95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)
# fmt: on
"""The t distribution's 97.5% quantile for 1 to 30 degrees of freedom."""
Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% interval; the half width is None where one value is all there is."""

    mean: float
    half_width: float | None

    def to_json(self) -> dict[str, float | None]:
        return {"mean": self.mean, "half_width": self.half_width}


def interval(values: Sequence[float]) -> Interval:
    """The mean of at least one value, and its t interval."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Interval(mean, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Interval(mean, t_95(n - 1) * math.sqrt(variance / n))


def told_apart(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether values of the same seeds differ by more than chance: the interval of their
    differences leaves out zero."""
    difference = interval([x - y for x, y in zip(a, b, strict=True)])
    return difference.half_width is None or abs(difference.mean) > difference.half_width


def t_95(freedom: int) -> float:
    """Beyond the table by the first terms of Cornish and Fisher's expansion, right to 1e-4."""
    if freedom <= len(T_95):
        return T_95[freedom - 1]
    z, n = Z_95, freedom
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
