"""Shipped profiles load, are plausible, and keep the error they state."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fairlead.latency import (
    FitError,
    Form,
    Profile,
    StepShape,
    closed_form,
    list_profiles,
    load_profile,
    measure_error,
)
from fairlead.latency.fit import phase, split
from fairlead.latency.profile_text import format_profile, parse_profile
from fairlead.model import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PERF = ROOT.parent / "shared" / "perf"

BYTES_PER_S = {
    "H100": 3.35e12,
    "H200": 4.8e12,
    "A100": 2.039e12,
    "L40S": 0.864e12,
    "B200": 7.7e12,
    "RTX PRO 6000": 1.597e12,
}
"""Memory bandwidth by the makers' data sheets; nothing decodes faster than its weights are read."""

PROFILES = list_profiles()


def test_the_promised_profiles_are_shipped() -> None:
    assert {
        "a100-llama-3.1-8b",
        "b200-llama-3.1-8b",
        "b200-llama-3.1-8b-fp8",
        "h100-llama-3.1-8b",
        "h100-llama-3.1-8b-fp8",
        "h100x2-qwen3-32b",
        "h100x4-llama-3.1-70b",
        "h100x8-llama-3.1-70b",
        "h200-llama-3.1-8b",
        "l40s-llama-3.1-8b",
        "rtxpro6000-llama-3.1-8b",
        "rtxpro6000x2-qwen3-32b",
    } <= set(PROFILES)


@pytest.mark.parametrize("name", PROFILES)
def test_a_shipped_profile_says_where_it_comes_from_and_how_sure_it_is(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert {"all", "decode", "prefill"} <= set(profile.errors)
    assert profile.source
    assert profile.licence
    assert profile.host_source
    assert profile.coefficients["host_s"] > 0


@pytest.mark.parametrize("name", PROFILES)
def test_a_decode_takes_about_as_long_as_reading_the_weights(name: str) -> None:
    profile = load_profile(name)
    bandwidth = next(value for gpu, value in BYTES_PER_S.items() if gpu in profile.gpu)
    read_s = profile.weights_bytes / profile.tensor_parallel / bandwidth
    alone_s = profile.latency_model().step_s(StepShape(1, 1000, 0, 0.0, 1000, 1))
    assert 0.8 * read_s < alone_s < 5 * read_s


@pytest.mark.parametrize("name", PROFILES)
def test_a_long_prefill_keeps_within_what_the_gpu_can_compute(name: str) -> None:
    """Two operations a parameter and token, at 30 to 1,500 trillion a second and GPU."""
    profile = load_profile(name)
    each = 2 if profile.precision == "bf16" else 1
    tokens = 4096
    shape = StepShape(0, 0, tokens, tokens * tokens / 2, tokens, 1)
    operations = 2 * (profile.weights_bytes / each) * tokens / profile.tensor_parallel
    assert 30e12 < operations / profile.latency_model().step_s(shape) < 1500e12 * 2 / each


@pytest.mark.parametrize("name", PROFILES)
def test_a_shipped_profile_fits_its_own_model_into_memory(name: str) -> None:
    profile = load_profile(name)
    n = profile.n_blocks(16)
    used = profile.weights_bytes + n * 16 * profile.kv_bytes_per_token
    total = 0.9 * profile.tensor_parallel * profile.gpu_memory_bytes
    assert total - 16 * profile.kv_bytes_per_token < used <= total
    assert n > 1000


def test_blocks_match_a_real_engine() -> None:
    """An H200 whose engine reported room for 945,029 tokens: within 3% of what is computed for
    Llama-3.1-8B in fp8."""
    assert load_profile("h200-llama-3.1-8b-fp8").n_blocks(1) == pytest.approx(945029, rel=0.03)


def test_a_model_that_leaves_no_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves no block"):
        load_profile("l40s-llama-3.1-8b").n_blocks(16, memory_fraction=0.3)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"nearest: h100-llama-3\.1-8b"):
        load_profile("h100-llama-8b")


def test_a_name_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(ConfigError, match="there are: a100"):
        load_profile("#")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml.*No such file"):
        load_profile(tmp_path / "none.toml")


def test_a_file_of_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_profile(path)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_survives_its_own_text(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    path = tmp_path / "copy.toml"
    path.write_text(format_profile(profile), encoding="utf-8")
    assert load_profile(str(path)) == profile


def test_text_and_price_come_back_as_they_went() -> None:
    profile = replace(
        load_profile("h100-llama-3.1-8b"), note='a "quoted"\nline \\ back', price_per_hour=3.0
    )
    assert parse_profile(format_profile(profile), "here") == profile


def changed(old: str, new: str) -> str:
    text = format_profile(load_profile("h100-llama-3.1-8b"))
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not TOML"),
        ("", "coefficients is missing"),
        (changed("precision =", "precison ="), "did you mean 'precision'"),
        (changed("tensor_parallel = 1", "tensor_parallel = 0"), "whole number above 0"),
        (changed("tensor_parallel = 1", "tensor_parallel = true"), "whole number above 0"),
        (changed('gpu = "NVIDIA H100 SXM 80 GB"', "gpu = 100"), "gpu is 100, must be text"),
        (changed("tensor_parallel = 1", "tensor_parallel = 1\nprice_per_hour = -1"), "0 or more"),
        (changed("weights_s = ", "weight_s = "), "weights_s"),
        (changed("[added]\nhost_s", "[added]\nhots_s"), "adds to no coefficient"),
        (changed("p95_abs_pct", "p59_abs_pct"), "errors.all must hold the numbers"),
    ],
)
def test_a_wrong_profile_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(text, "my.toml")
    assert "my.toml" in str(caught.value)
    assert said in str(caught.value)


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[StepShape, float]]]:
    """The measured points of every shipped profile that the fit did not see."""
    if not (PERF / "iters").is_dir():
        pytest.skip(f"no measured latencies in {PERF}")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import fit_profiles

    unseen = {
        entry.name: split(fit_profiles.entry_points(entry, PERF), fit_profiles.SEED)[1]
        for entry in fit_profiles.CATALOGUE
    }
    for module in ("fit_profiles", "perf_data", "profile_catalogue"):
        del sys.modules[module]
    return unseen


def test_stated_errors_hold_against_the_measurements(
    catalogue: dict[str, list[tuple[StepShape, float]]],
) -> None:
    assert sorted(catalogue) == PROFILES
    for name, points in catalogue.items():
        profile = load_profile(name)
        for kind, stated in profile.errors.items():
            some = [point for point in points if kind in ("all", phase(point[0]))]
            found = measure_error(kernels_of(profile), some)
            assert found.n_points == stated.n_points
            assert differences(found, stated) < 0.1, (name, kind)


def kernels_of(profile: Profile) -> Form:
    """The fit to kernels, without what whole engines added."""
    added = profile.added
    return closed_form(
        {name: max(x - added.get(name, 0.0), 0.0) for name, x in profile.coefficients.items()}
    )


def differences(a: FitError, b: FitError) -> float:
    return max(
        abs(a.mean_abs_pct - b.mean_abs_pct),
        abs(a.p95_abs_pct - b.p95_abs_pct),
        abs(a.bias_pct - b.bias_pct),
    )


@pytest.mark.parametrize("name", PROFILES)
def test_the_mean_error_is_small_enough_to_plan_with(name: str) -> None:
    """The one exception says in its note not to lean on it."""
    profile = load_profile(name)
    limit = 10 if "Do not lean on this profile" in profile.note else 6
    assert profile.errors["all"].mean_abs_pct < limit
    assert profile.end_to_end is None or profile.end_to_end.mean_abs_pct < limit
