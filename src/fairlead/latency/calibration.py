"""From the steps of an engine to the closed form that tells unseen ones best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, median

from fairlead.latency.accuracy import FitError, Point, measure_error
from fairlead.latency.coefficients import closed_form
from fairlead.latency.fit import fit_linear, fit_thirteen, phase
from fairlead.latency.forms import Form
from fairlead.latency.model import StepShape
from fairlead.model import ConfigError

LEAST_POINTS = 12
"""Fewer cannot tell five coefficients and their error."""
RUN = 16
"""Decode iterations in a row that count as one point: their contexts differ by little."""
AWAY = 2.5
"""A step that took so many times as long as its likes, or as short, does not tell what they cost:
the machine was away meanwhile, or is making up for it."""
WILD = 0.3
"""A point further off than this share says nothing about the mean of the noise."""


def points_of(steps: Sequence[Point]) -> list[Point]:
    """The steps of one wave, likes together: decode iterations in a row, and chunks that meet the
    same load. Each is the mean of its likes, but for those during which the machine was away."""
    points: list[Point] = []
    chunks: dict[tuple[int, int, float, int], list[Point]] = {}
    for shape, run in groupby(steps, key=_decodes):
        likes = list(run)
        if shape:
            points += (_mean(likes[i : i + RUN]) for i in range(0, len(likes), RUN))
            continue
        for shape_s in likes:
            s = shape_s[0]
            key = (s.decodes, s.prefill_tokens, s.prefill_pairs, s.sampled)
            chunks.setdefault(key, []).append(shape_s)
    return points + [_mean(likes) for likes in chunks.values()]


def _decodes(step: Point) -> int:
    """How many sequences decode, 0 where a prompt is computed as well."""
    shape, _ = step
    return 0 if shape.prefill_tokens else shape.decodes


def _mean(likes: Sequence[Point]) -> Point:
    usual_s = median(seconds for _, seconds in likes)
    at_work = [like for like in likes if usual_s / AWAY <= like[1] <= AWAY * usual_s]
    first = likes[0][0]
    shape = StepShape(
        first.decodes,
        round(fmean(shape.decode_context for shape, _ in at_work)),
        first.prefill_tokens,
        first.prefill_pairs,
        round(fmean(shape.longest for shape, _ in at_work)),
        first.sampled,
    )
    return shape, fmean(seconds for _, seconds in at_work)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A closed form, and how well it tells steps that it was not fitted to."""

    form: Form
    n_fitted: int
    errors: Mapping[str, FitError]
    """By phase, and `all`."""
    rejected: Mapping[str, FitError]
    """Of the forms that told unseen points less well, by name, over all points."""

    @property
    def name(self) -> str:
        return type(self.form).__name__


def calibrate(fitted: Sequence[Point], unseen: Sequence[Point]) -> Calibration:
    """Fits every closed form to the one, and takes the one that tells the other best: each phase
    counts the same. Raises `ConfigError` where there is too little to tell."""
    if len(fitted) < LEAST_POINTS or not unseen:
        raise ConfigError(
            f"only {len(fitted)} points to fit and {len(unseen)} to check were measured, and at "
            f"least {LEAST_POINTS} are needed; give --seconds more"
        )
    forms = [_unbiased(form, fitted) for form in _fits(fitted)]
    best, *others = sorted(forms, key=lambda form: _mean_over_phases(errors_by_phase(form, unseen)))
    return Calibration(
        best,
        len(fitted),
        errors_by_phase(best, unseen),
        {type(form).__name__: measure_error(form, unseen) for form in others},
    )


def _fits(points: Sequence[Point]) -> Iterator[Form]:
    yield fit_linear(points)
    if {"decode", "prefill"} <= _phases(points):
        yield fit_thirteen(points)


def _unbiased(form: Form, points: Sequence[Point]) -> Form:
    """The same, so much slower or faster that it is right on average. A robust fit goes through
    the middle of the noise; what steps add up to is its mean, which is higher."""
    ratio = fmean(
        min(max(seconds / form.step_s(shape), 1.0 - WILD), 1.0 + WILD) for shape, seconds in points
    )
    scaled = {
        name: value if name == "sharpness" else float(f"{value * ratio:.7g}")
        for name, value in form.coefficients().items()
    }
    return closed_form(scaled)


def errors_by_phase(form: Form, points: Sequence[Point]) -> dict[str, FitError]:
    """`all`, and every phase that is among the points."""
    errors = {"all": measure_error(form, points)}
    for name in sorted(_phases(points)):
        errors[name] = measure_error(form, [p for p in points if phase(p[0]) == name])
    return errors


def _phases(points: Sequence[Point]) -> set[str]:
    return {phase(shape) for shape, _ in points}


def _mean_over_phases(errors: Mapping[str, FitError]) -> float:
    return fmean(error.mean_abs_pct for name, error in errors.items() if name != "all")
