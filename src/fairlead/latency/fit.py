"""Fits the closed forms to measured steps, by relative error.

`fit_linear` needs numpy only and behaves with the ten to thirty noisy points that a new engine
measures at its start; `fit_thirteen` needs scipy, and a few hundred points to tell all thirteen
apart: of fewer than sixty it asks for the five that matter most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from fairlead.latency.accuracy import Point
from fairlead.latency.forms import Linear, ThirteenCoefficients
from fairlead.latency.model import StepShape
from fairlead.model import ConfigError

Array = NDArray[np.float64]

ENOUGH_FOR_THIRTEEN = 60
"""Points; fewer do not tell so many apart."""
_OUTLIER = 1.345
"""Huber's constant: residuals beyond so many standard deviations lose weight; a fit to clean
normal noise is then still 95% as sharp as least squares."""


def phase(shape: StepShape) -> str:
    """`decode`, `prefill` or `mixed`."""
    if not shape.prefill_tokens:
        return "decode"
    return "mixed" if shape.decodes else "prefill"


def split(points: Sequence[Point], seed: int) -> tuple[list[Point], list[Point]]:
    """Two random halves: one to fit, one that the fit must not see. Equal seeds, equal halves."""
    rng = Random(seed)
    halves: tuple[list[Point], list[Point]] = ([], [])
    for point in points:
        halves[rng.random() < 0.5].append(point)
    return halves


def fit_linear(points: Sequence[Point]) -> Linear:
    """The `Linear` that fits best, every coefficient 0 or more; single wild points do not bend
    it. A term that never varied in the points ends up in another one. Raises ConfigError."""
    seconds = _seconds(points)
    columns = np.array(
        [
            (1.0, s.decodes + s.prefill_tokens, s.decodes, s.decode_context, s.prefill_pairs)
            for s, _ in points
        ]
    )
    relative = columns / seconds[:, None]
    weights = np.ones(len(points))
    for _ in range(20):
        x = non_negative_least_squares(relative * weights[:, None], weights)
        weights = np.sqrt(_huber_weights(relative @ x - 1.0))
    base, gemm, decode, context, pair = (float(value) for value in x)
    return Linear(
        base_s=base,
        gemm_s_per_token=gemm,
        decode_s_per_sequence=decode,
        decode_s_per_context_token=context,
        prefill_s_per_pair=pair,
    )


def _seconds(points: Sequence[Point]) -> Array:
    if not points or not all(0 < seconds < math.inf for _, seconds in points):
        raise ConfigError(
            f"cannot fit step times to {len(points)} points: there must be at least one, and "
            "every duration a finite number of seconds above 0; measure again"
        )
    return np.array([seconds for _, seconds in points])


def _huber_weights(residuals: Array) -> Array:
    # The median absolute deviation, scaled to a normal's standard deviation; a floor of a
    # millionth keeps an exact fit from calling its own rounding errors wild.
    spread = max(1.4826 * float(np.median(np.abs(residuals))), 1e-6)
    weights: Array = 1.0 / np.maximum(np.abs(residuals) / (_OUTLIER * spread), 1.0)
    return weights


def non_negative_least_squares(a: Array, b: Array) -> Array:
    """The x >= 0 that minimises |a x - b|.

    Active sets, after Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23:
    free the variable that helps most, solve for the free ones, and step back to the border
    wherever one of them would turn negative.
    """
    scale = np.linalg.norm(a, axis=0)
    a = a / np.where(scale > 0, scale, 1.0)
    x = np.zeros(a.shape[1])
    free = np.zeros(a.shape[1], dtype=bool)
    for _ in range(10 * a.shape[1]):
        gain = a.T @ (b - a @ x)
        gain[free] = -np.inf
        best = int(np.argmax(gain))
        if gain[best] <= 1e-10:
            break
        free[best] = True
        x = _solve_free(a, b, x, free)
    return np.where(scale > 0, x / np.where(scale > 0, scale, 1.0), 0.0)


def _solve_free(a: Array, b: Array, x: Array, free: NDArray[np.bool_]) -> Array:
    """Least squares over the free variables; those that leave the allowed range are fixed at 0."""
    while free.any():
        target = np.zeros_like(x)
        target[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
        if (target[free] > 0).all():
            return target
        blocked = np.flatnonzero(free & (target <= 0))
        reach = x[blocked] / np.maximum(x[blocked] - target[blocked], 1e-300)
        x = x + reach.min() * (target - x)
        # By name, not by value: at least one leaves in every round, whatever the rounding.
        free[blocked[reach <= reach.min()]] = False
        x[~free] = 0.0
    return x


def fit_thirteen(points: Sequence[Point]) -> ThirteenCoefficients:
    """The `ThirteenCoefficients` that fit best. Decode, prefill and mixed steps count equally,
    however many of each there are. Decodes and prefills must be among the points; without mixed
    steps the two coefficients that need them stay unmeasured, and with few points all but those
    that make a roofline: weights, tokens, decodes, their context, pairs. Raises ConfigError."""
    phases = [phase(shape) for shape, _ in points]
    if not {"decode", "prefill"} <= set(phases):
        raise ConfigError("thirteen coefficients need measured decode steps and prefill steps")
    told = [name for name, *_ in _PARAMETERS if name not in _MIXED_ONLY or "mixed" in phases]
    corners: tuple[float, ...] = (1.3, 2.0, 5.0)
    if len(points) < ENOUGH_FOR_THIRTEEN:
        told, corners = list(_ROOFLINE), (_USUAL_CORNER,)
    residuals = _residuals(points, phases)
    best = min(
        (_minimise(residuals, told, sharpness) for sharpness in corners),
        key=lambda result: result[0],
    )[1]
    values = {
        # What is left of a coefficient that the data pushed to its border is noise.
        name: float(f"{x * unit:.7g}") if x > 1e-5 else 0.0
        for (name, unit, *_), x in zip(_PARAMETERS, best, strict=True)
        if name in told or name == "sharpness"
    }
    return ThirteenCoefficients(**values)


# Name, the unit that brings it near 1, first guess, least and greatest value.
_PARAMETERS: tuple[tuple[str, float, float, float, float], ...] = (
    ("weights_s", 1e-3, 5.0, 1e-3, 1e3),
    ("gemm_s_per_token", 1e-6, 30.0, 1e-3, 1e4),
    ("sharpness", 1.0, 2.0, 1.0, 30.0),
    ("base_s", 1e-3, 0.5, 0.0, 1e2),
    ("sample_s_per_sequence", 1e-5, 0.5, 0.0, 1e3),
    ("decode_base_s", 1e-3, 0.5, 0.0, 1e2),
    ("decode_s_per_sequence", 1e-5, 0.1, 0.0, 1e3),
    ("decode_s_per_context_token", 1e-8, 5.0, 0.0, 1e4),
    ("prefill_base_s", 1e-3, 0.5, 0.0, 1e2),
    ("walk_s_per_context_token", 1e-7, 1.0, 0.0, 1e4),
    ("prefill_s_per_context_token", 1e-8, 10.0, 0.0, 1e4),
    ("prefill_s_per_pair", 1e-9, 1.0, 0.0, 1e4),
    ("prefill_s_per_sequence", 1e-5, 0.5, 0.0, 1e3),
)
_MIXED_ONLY = {
    "prefill_s_per_context_token": "decode_s_per_context_token",
    "prefill_s_per_sequence": "decode_s_per_sequence",
}
"""And what they are taken to be where no mixed step tells them."""
_ROOFLINE = (
    "weights_s",
    "gemm_s_per_token",
    "decode_s_per_sequence",
    "decode_s_per_context_token",
    "prefill_s_per_pair",
)
_USUAL_CORNER = 2.0
"""The sharpness of a usual GPU."""


def _minimise(
    residuals: Callable[[Array], Array], told: Collection[str], sharpness: float
) -> tuple[float, Array]:
    """The least of the residuals over these parameters; all others are 0."""
    from scipy.optimize import least_squares

    names = [name for name, *_ in _PARAMETERS]
    free = np.array([name in told for name in names])
    alike = [
        (names.index(mixed), names.index(other))
        for mixed, other in _MIXED_ONLY.items()
        if mixed not in told
    ]
    start = np.array([first for _, _, first, _, _ in _PARAMETERS]) * free
    start[2] = sharpness
    low = np.array([least for _, _, _, least, _ in _PARAMETERS])[free]
    high = np.array([greatest for _, _, _, _, greatest in _PARAMETERS])[free]

    def whole(x: Array) -> Array:
        every: Array = start.copy()
        every[free] = x
        for untold, other in alike:
            every[untold] = every[other]
        return every

    found = least_squares(
        lambda x: residuals(whole(x)),
        start[free],
        bounds=(low, high),
        x_scale=np.maximum(start[free], 0.1),
        loss="soft_l1",
        f_scale=0.03,
        max_nfev=300,
    )
    return float(found.cost), whole(found.x)


def _residuals(points: Sequence[Point], phases: Sequence[str]) -> Callable[[Array], Array]:
    """Relative errors of a parameter vector on all points, each phase with the same weight."""
    seconds = _seconds(points)
    columns = _columns([shape for shape, _ in points])
    n = {name: phases.count(name) for name in set(phases)}
    weights = np.array([math.sqrt(len(phases) / (len(n) * n[name])) for name in phases])
    units = np.array([unit for _, unit, *_ in _PARAMETERS])
    pull = 1e-4 * math.sqrt(len(phases))

    def residuals(x: Array) -> Array:
        errors = (predict_s(x * units, columns) / seconds - 1.0) * weights
        # The three constants come in two sums only; a faint pull to 0 settles the third.
        return np.concatenate([errors, pull * x[[3, 5, 8]]])

    return residuals


def _columns(shapes: Sequence[StepShape]) -> Array:
    """Tokens, decodes, decode context, pairs, longest, sampled, has a prefill: one row each."""
    return np.array(
        [
            (
                s.decodes + s.prefill_tokens,
                s.decodes,
                s.decode_context,
                s.prefill_pairs,
                s.longest,
                s.sampled,
                s.prefill_tokens > 0,
            )
            for s in shapes
        ],
        dtype=float,
    ).T


def predict_s(values: Array, columns: Array) -> Array:
    """`ThirteenCoefficients.step_s`, for many shapes at once; values in its order, in seconds."""
    w, g, p, base, sample, a0, a1, a2, k0, walk, c1, c2, c3 = values
    tokens, decodes, context, pairs, longest, sampled, prefill = columns
    high = np.maximum(w, g * tokens)
    low = np.minimum(w, g * tokens)
    gemm = high * (1.0 + (low / high) ** p) ** (1.0 / p)
    decode = a0 + a1 * decodes + a2 * context
    path = k0 + np.maximum(walk * longest, c1 * context + c2 * pairs + c3 * decodes)
    attention = np.where(prefill > 0, np.maximum(decode, path), decode)
    total: Array = base + gemm + sample * sampled + attention
    return total
