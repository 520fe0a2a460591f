"""Refits every shipped latency profile from the perf folder and rewrites its TOML.

    python scripts/fit_profiles.py [--perf ../shared/perf] [--out DIR] [--only NAME]

Steps composed from measured kernels give the thirteen coefficients; half of them, drawn by a fixed
seed, are fitted, the other half give the stated error. Kernels leave out the host and small
operations: what a whole engine adds per step, per sequence and per token comes from half of its
measured runs where there are any, and the other half give the stated end-to-end error.
Equal data, equal files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from perf_data import EngineRun, play_run, read_points, read_runs
from profile_catalogue import ARCHITECTURES, CATALOGUE, GPUS, Constant, Entry, SameAs

from fairlead.latency import (
    FitError,
    Form,
    Point,
    Profile,
    StepShape,
    ThirteenCoefficients,
    closed_form,
    measure_error,
)
from fairlead.latency.fit import fit_thirteen, phase, split
from fairlead.latency.profile_text import format_profile

ROOT = Path(__file__).resolve().parent.parent
SEED = 1

SOURCES = {
    "aic": (
        "kernels measured by ai-dynamo/aiconfigurator 095f58a (vLLM 0.24.0 collectors; A100: "
        "0.14.0), composed into steps",
        "Apache-2.0, © NVIDIA",
    ),
    "llmservingsim": (
        "layers measured inside vLLM 0.19.0, eager mode, by casys-kaist/LLMServingSim 5daddb2, "
        "composed into steps; mixed steps measured",
        "MIT",
    ),
}
NO_MIXED = (
    "No step with both prefill and decodes was measured: beside a prefill, decodes are priced as "
    "without one."
)


@dataclass(frozen=True, slots=True)
class Overhead:
    """What whole engines need beyond their kernels, and how well it is known."""

    added: Mapping[str, float]
    """To coefficients, by name."""
    source: str
    end_to_end: FitError | None = None


def main() -> int:
    arguments = _arguments()
    if not (arguments.perf / "iters").is_dir():
        print(
            f"no measured latencies in {arguments.perf}: there is no folder 'iters' in it. Point "
            "--perf at the folder whose README describes iters/, ops/ and e2e/.",
            file=sys.stderr,
        )
        return 2
    overheads: dict[str, Overhead] = {}
    print(_HEADER)
    for entry in CATALOGUE:
        profile = fit_profile(entry, arguments.perf, overheads)
        if arguments.only in (None, profile.name):
            arguments.out.mkdir(parents=True, exist_ok=True)
            path = arguments.out / f"{profile.name}.toml"
            path.write_text(format_profile(profile), encoding="utf-8")
            print(_table_row(profile), flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--perf", type=Path, default=ROOT.parent / "shared" / "perf")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "src" / "fairlead" / "latency" / "profiles"
    )
    parser.add_argument("--only", metavar="NAME", help="write this profile only")
    return parser.parse_args()


def fit_profile(entry: Entry, perf: Path, overheads: dict[str, Overhead]) -> Profile:
    """The profile of `entry`; puts what its runs showed into `overheads`, for those that follow."""
    fitted, unseen = split(entry_points(entry, perf), SEED)
    kernels = fit_thirteen(fitted)
    overhead = _overhead(entry, kernels, perf, overheads)
    overheads[entry.name] = overhead
    coefficients = kernels.coefficients()
    for name, value in overhead.added.items():
        coefficients[name] = float(f"{coefficients[name] + value:.7g}")
    phases = sorted({phase(shape) for shape, _ in unseen})
    notes = [entry.note, "" if "mixed" in phases else NO_MIXED]
    source, licence = SOURCES[entry.points.split("_")[0]]
    return Profile(
        **facts(entry),
        coefficients=closed_form(coefficients).coefficients(),
        added=overhead.added,
        errors={"all": measure_error(kernels, unseen), **_by_phase(kernels, unseen, phases)},
        end_to_end=overhead.end_to_end,
        source=source,
        licence=licence,
        host_source=overhead.source,
        note=" ".join(note for note in notes if note),
    )


def facts(entry: Entry) -> dict[str, Any]:
    gpu, model = GPUS[entry.gpu], ARCHITECTURES[entry.model]
    return {
        "name": entry.name,
        "gpu": gpu.name,
        "model": model.name,
        "precision": entry.precision,
        "tensor_parallel": entry.tensor_parallel,
        "gpu_memory_bytes": gpu.memory_bytes,
        "weights_bytes": model.weights_bytes(entry.precision),
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "max_context": model.max_context,
    }


def entry_points(entry: Entry, perf: Path) -> list[Point]:
    return read_points(perf, entry.points, _kv_tokens(entry))


def _kv_tokens(entry: Entry) -> int:
    gpu, model = GPUS[entry.gpu], ARCHITECTURES[entry.model]
    memory_bytes = entry.tensor_parallel * gpu.memory_bytes * 0.9
    return int(memory_bytes - model.weights_bytes(entry.precision)) // model.kv_bytes_per_token


def _by_phase(model: Form, points: list[Point], phases: list[str]) -> dict[str, FitError]:
    return {
        name: measure_error(model, [point for point in points if phase(point[0]) == name])
        for name in phases
    }


def _overhead(
    entry: Entry, kernels: ThirteenCoefficients, perf: Path, known: Mapping[str, Overhead]
) -> Overhead:
    if isinstance(entry.overhead, Constant):
        return Overhead({"host_s": entry.overhead.host_s}, entry.overhead.why)
    if isinstance(entry.overhead, SameAs):
        return Overhead(
            known[entry.overhead.profile].added,
            f"what the engine of profile {entry.overhead.profile} added to its kernels",
        )
    runs = read_runs(perf, _kv_tokens(entry), **entry.overhead.where)
    return _fit_overhead(kernels, runs, entry.overhead.engine)


def _fit_overhead(kernels: ThirteenCoefficients, runs: list[EngineRun], engine: str) -> Overhead:
    """Fits what is missing per step, per sequence and per token to every second run: they come in
    order of their lengths and concurrency, so both halves see the whole range."""
    from scipy.optimize import least_squares

    played = [(_Played.of(run), run.tpot_s) for run in runs]
    fitted, others = played[::2], played[1::2]

    def errors(x: NDArray[np.float64]) -> list[float]:
        model = _with(kernels, _added(x))
        return [steps.tpot_s(model) / tpot_s - 1.0 for steps, tpot_s in fitted]

    found = least_squares(errors, [1.0, 1.0, 1.0], bounds=(0, np.inf), loss="soft_l1", f_scale=0.03)
    added = {name: _rounded(value) for name, value in _added(found.x).items()}
    model = _with(kernels, added)
    unseen = FitError.of((steps.tpot_s(model), tpot_s) for steps, tpot_s in others)
    source = (
        f"fitted to the TPOT of {len(fitted)} runs of {engine} on this GPU and model (public "
        "benchmark rows of the same repository), together with a time per sequence and per token; "
        f"checked against {len(others)} others"
    )
    return Overhead(added, source, unseen)


def _rounded(value: float) -> float:
    # Below a nanosecond a step, a sequence or a token there is nothing but the optimiser's noise.
    return float(f"{value:.4g}") if value > 1e-9 else 0.0


def _added(x: NDArray[np.float64]) -> dict[str, float]:
    return {
        "host_s": float(x[0]) * 1e-3,
        "sample_s_per_sequence": float(x[1]) * 1e-5,
        "gemm_s_per_token": float(x[2]) * 1e-6,
    }


def _with(kernels: ThirteenCoefficients, added: Mapping[str, float]) -> Form:
    coefficients = kernels.coefficients()
    return closed_form({**coefficients, **{k: coefficients[k] + v for k, v in added.items()}})


@dataclass(frozen=True, slots=True)
class _Played:
    """A run's steps; a token's mean time is the mean over steps, weighted by their decodes."""

    steps: list[StepShape]
    n_tokens: int

    @classmethod
    def of(cls, run: EngineRun) -> _Played:
        steps = [shape for shape in play_run(run) if shape.decodes]
        return cls(steps, sum(shape.decodes for shape in steps))

    def tpot_s(self, model: Form) -> float:
        return sum(model.step_s(shape) * shape.decodes for shape in self.steps) / self.n_tokens


_HEADER = (
    f"{'mean / P95 error % on unseen points':<35} {'decode':>13} {'prefill':>13} {'mixed':>13}"
    f" {'all':>13} {'bias':>6} {'TPOT':>13} {'bias':>6}"
)


def _table_row(profile: Profile) -> str:
    cells = [_cell(profile.errors.get(name)) for name in ("decode", "prefill", "mixed", "all")]
    engine = profile.end_to_end
    return (
        f"{profile.name:<35} {' '.join(f'{cell:>13}' for cell in cells)}"
        f" {profile.errors['all'].bias_pct:>+6.1f} {_cell(engine):>13}"
        f" {f'{engine.bias_pct:+.1f}' if engine else '-':>6}"
    )


def _cell(error: FitError | None) -> str:
    return f"{error.mean_abs_pct:.1f} / {error.p95_abs_pct:.1f}" if error else "-"


if __name__ == "__main__":
    sys.exit(main())
