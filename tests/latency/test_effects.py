"""What overlapping and sharing make of a step, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.latency import (
    EFFECTS,
    Linear,
    Model,
    Nanoflow,
    SemiPd,
    StepShape,
    ThirteenCoefficients,
    from_coefficients,
    load_profile,
    with_effect,
)
from fairlead.latency.effects import PURE_NUMBERS, effect_problems, parameters
from fairlead.latency.forms import Form
from fairlead.model import ConfigError
from fairlead.worker.start import faster
from tests.latency.test_forms import (
    RTX,
    decode_shapes,
    forms,
    nanoflows,
    semi_pds,
    shapes,
)

PLAIN = Linear(
    base_s=1.0,
    gemm_s_per_token=0.01,
    decode_s_per_sequence=0.1,
    decode_s_per_context_token=0.001,
    prefill_s_per_pair=0.0001,
)
DECODES = StepShape(10, 20_000, 0, 0.0, 0, 10)
PROMPT = StepShape(0, 0, 2000, 2_000_000.0, 2000, 1)
MIXED = StepShape(10, 20_000, 2000, 2_000_000.0, 2000, 11)
"""One by one: 1 + 20.1 matrices + 200 prompt + 21 decodes."""


# ---------------------------------------------------------------- nanoflow


def test_the_slowest_part_is_what_a_mixed_step_takes() -> None:
    assert PLAIN.step_s(MIXED) == pytest.approx(242.1)
    overlapped = Nanoflow(form=PLAIN, interference=0.05, dense_tokens=1)
    assert overlapped.step_s(MIXED) == pytest.approx(1 + 1.05 * 220.1)
    long_contexts = StepShape(10, 400_000, 2000, 2_000_000.0, 2000, 11)
    assert overlapped.step_s(long_contexts) == pytest.approx(1 + 1.05 * 401)
    assert PLAIN.step_s(long_contexts) == pytest.approx(1 + 220.1 + 401)


def test_the_network_overlaps_as_well() -> None:
    model = Nanoflow(form=PLAIN, interference=0.0, dense_tokens=1, network_fraction=0.5)
    assert model.step_s(MIXED) == pytest.approx(1 + 20.1 / 2 + 200)
    talkative = replace(PLAIN, gemm_s_per_token=1.0, prefill_s_per_pair=0.0)
    model = Nanoflow(form=talkative, interference=0.0, dense_tokens=1, network_fraction=0.75)
    assert model.step_s(MIXED) == pytest.approx(1 + 0.75 * 2010)


def test_the_weights_are_read_by_the_memory_and_the_host_overlaps_with_nothing() -> None:
    """On the RTX's coefficients: 64 decodes of 40k tokens each beside 2048 of a prompt."""
    model = Nanoflow(form=replace(RTX, host_s=2e-3), interference=0.1, dense_tokens=1)
    shape = StepShape(64, 64 * 40_000, 2048, 2048 * 1024.0, 40_000, 64)
    memory_s = 7.878e-3 + 2.3393e-3 + 64 * 40_000 * 9.0544e-8
    assert model.step_s(shape) == pytest.approx(2e-3 + 0.9423e-3 + 64 * 0.4438e-5 + 1.1 * memory_s)
    assert model.step_s(shape) < 0.8 * RTX.step_s(shape)


def test_a_batch_far_below_the_dense_one_gains_nothing() -> None:
    model = Nanoflow(form=PLAIN, interference=0.0, dense_tokens=4096)
    small = StepShape(10, 20_000, 500, 1000.0, 2000, 11)
    assert model.step_s(small) == PLAIN.step_s(small)
    # The matrices of a full batch take 30.72 s, those of this one 20.1 s; its decodes 20.1 s.
    near = StepShape(10, 19_100, 2000, 10_000.0, 2000, 11)
    model = replace(model, dense_tokens=3072)
    assert PLAIN.step_s(near) == pytest.approx(1 + 20.1 + 1 + 20.1)
    assert model.step_s(near) == pytest.approx(1 + 30.72 + 1)
    assert replace(model, dense_tokens=2010).step_s(near) == pytest.approx(1 + 20.1 + 1)


def test_a_step_never_costs_less_than_its_decodes_by_themselves() -> None:
    model = Nanoflow(form=PLAIN, interference=0.0, dense_tokens=1)
    shape = StepShape(10, 200_000, 10, 50.0, 2000, 10)
    assert model.step_s(shape) == PLAIN.step_s(StepShape(10, 200_000, 0, 0.0, 0, 10))


@given(nanoflows, shapes())
def test_overlap_never_costs_and_saves_half_or_two_thirds_at_most(
    model: Nanoflow, shape: StepShape
) -> None:
    """Of two or three parts the slowest is half or a third of all, where a decode costs as much
    beside prompts as by itself: overlapped, it does."""
    one_by_one_s = model.form.step_s(shape)
    assert model.step_s(shape) <= one_by_one_s
    if isinstance(model.form, ThirteenCoefficients):
        alike = replace(
            model.form,
            prefill_s_per_context_token=model.form.decode_s_per_context_token,
            prefill_s_per_sequence=model.form.decode_s_per_sequence,
        )
        one_by_one_s = min(one_by_one_s, alike.step_s(shape))
    assert model.step_s(shape) >= one_by_one_s / 3 * (1 - 1e-9)


@given(nanoflows, decode_shapes())
def test_pure_decodes_gain_nothing(model: Nanoflow, shape: StepShape) -> None:
    assert model.step_s(shape) == model.form.step_s(shape)
    assert model.growth_s(shape) == model.form.growth_s(shape)


# ---------------------------------------------------------------- semi-pd


def test_each_phase_computes_on_its_share() -> None:
    model = SemiPd(
        form=PLAIN, prefill_share=0.5, decode_share=0.25, contention=1.5, saturating_share=0.25
    )
    assert model.step_s(PROMPT) == pytest.approx(1 + (20 + 200) / 0.5)
    assert model.step_s(DECODES) == pytest.approx(1 + 0.1 / 0.25 + 21)
    assert model.step_s(MIXED) == pytest.approx(1 + (20 + 200) / 0.5)
    long_contexts = StepShape(10, 400_000, 2000, 2_000_000.0, 2000, 11)
    assert model.step_s(long_contexts) == pytest.approx(1 + 0.1 / 0.25 + 1.5 * 401)


def test_shares_of_more_than_all_count_in_proportion_while_both_run() -> None:
    model = SemiPd(form=PLAIN, prefill_share=0.8, decode_share=1.0, saturating_share=0.1)
    assert model.step_s(PROMPT) == pytest.approx(1 + 220 / 0.8)
    assert model.step_s(MIXED) == pytest.approx(1 + 220 / (0.8 / 1.8))


def test_too_few_multiprocessors_read_memory_slower() -> None:
    model = SemiPd(form=PLAIN, decode_share=0.1, saturating_share=0.4)
    assert model.step_s(DECODES) == pytest.approx(1 + 0.1 / 0.1 + 21 / (0.1 / 0.4))


@given(forms, shapes())
def test_all_of_the_gpu_for_both_and_no_contention_costs_a_pure_step_what_it_costs(
    form: Form, shape: StepShape
) -> None:
    model = SemiPd(form=form, prefill_share=1.0, decode_share=1.0, contention=1.0)
    if not (shape.decodes and shape.prefill_tokens):
        assert model.step_s(shape) == form.step_s(shape)


@given(forms, decode_shapes(), st.floats(0.05, 1.0), st.floats(0.0, 0.9))
def test_a_smaller_share_is_never_faster(
    form: Form, shape: StepShape, share: float, less: float
) -> None:
    def decoding_on(share: float) -> float:
        model = SemiPd(form=form, decode_share=share)
        return model.step_s(shape)

    assert decoding_on(share * (1 - less)) >= decoding_on(share) * (1 - 1e-12)


# ---------------------------------------------------------------- both


H100 = load_profile("h100-llama-3.1-8b").latency_model()
SHARED = SemiPd(form=H100, prefill_share=0.65, decode_share=0.35)


@pytest.mark.parametrize(
    ("effect", "model"), [("nanoflow", Nanoflow(form=H100)), ("semi-pd", SHARED)]
)
def test_a_mixed_load_gains_on_an_h100_and_a_pure_one_does_not(effect: str, model: Model) -> None:
    """256 sequences of 4,000 tokens and 2,048 tokens of a prompt: both kinds of work abound."""
    decodes = StepShape(256, 256 * 4000, 0, 0.0, 0, 256)
    prompt = StepShape(0, 0, 2048, 2048 * 1024.0, 2048, 1)
    mixed = StepShape(256, 256 * 4000, 2048, 2048 * 1024.0, 4000, 257)
    assert model.step_s(mixed) < 0.9 * H100.step_s(mixed)
    assert model.step_s(decodes) >= H100.step_s(decodes)
    assert model.step_s(prompt) >= 0.999 * H100.step_s(prompt)


@given(nanoflows | semi_pds)
def test_an_effect_survives_the_flat_mapping_that_specs_carry(model: Nanoflow | SemiPd) -> None:
    name = next(name for name, kind in EFFECTS.items() if isinstance(model, kind))
    given = {one: getattr(model, one) for one in parameters(name)}
    flat = with_effect(model.form.coefficients(), name, given)
    assert all(type(value) is float for value in flat.values())
    assert from_coefficients(flat) == model
    assert from_coefficients(flat) is from_coefficients(flat)


@pytest.mark.parametrize("name", EFFECTS)
def test_a_faster_engine_has_the_same_effect(name: str) -> None:
    plain = RTX.coefficients()
    fast, slow = (
        from_coefficients(with_effect(faster(plain, speed), name, {})) for speed in (4, 1)
    )
    assert fast.step_s(MIXED) == pytest.approx(slow.step_s(MIXED) / 4)
    assert from_coefficients(faster(with_effect(plain, name, {}), 4)) == fast
    assert "sharpness" in PURE_NUMBERS


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("none", {"interference": 0.1}, ["no effect"]),
        ("nanoflw", {}, ["none, nanoflow, semi-pd", "did you mean 'nanoflow'"]),
        ("nanoflow", {"interferenc": 0.1}, ["'interferenc'", "did you mean 'interference'"]),
        ("nanoflow", {"form": 0.1}, ["no parameter 'form'"]),
        ("nanoflow", {"interference": "much"}, ["'much'", "must be a number"]),
        ("nanoflow", {"interference": True}, ["must be a number"]),
        ("nanoflow", {"interference": -0.1}, ["interference is -0.1"]),
        ("nanoflow", {"interference": float("nan")}, ["interference is nan"]),
        ("nanoflow", {"dense_tokens": 0}, ["dense_tokens is 0"]),
        ("nanoflow", {"network_fraction": 1}, ["network_fraction is 1"]),
        ("semi-pd", {"prefill_share": 0.0, "decode_share": 1.5}, ["prefill_share", "decode_share"]),
        ("semi-pd", {"prefill_share": float("nan")}, ["prefill_share is nan"]),
        ("semi-pd", {"contention": 0.9}, ["contention is 0.9"]),
        ("semi-pd", {"contention": float("inf")}, ["contention is inf"]),
    ],
)
def test_a_wrong_effect_is_refused_with_the_reason(
    name: str, given: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        with_effect(PLAIN.coefficients(), name, given)
    for part in said:
        assert part in str(caught.value)


def test_an_effect_is_for_emulated_engines() -> None:
    assert effect_problems("nanoflow", {}) == []
    (problem,) = effect_problems("nanoflow", {}, "embedded")
    assert "this one is embedded" in problem


def test_a_mapping_has_one_effect_at_most() -> None:
    flat = with_effect(with_effect(PLAIN.coefficients(), "nanoflow", {}), "semi-pd", {})
    with pytest.raises(ConfigError, match="not nanoflow and semi-pd"):
        from_coefficients(flat)
    with pytest.raises(ConfigError, match="no parameter 'banana'"):
        from_coefficients({**PLAIN.coefficients(), "nanoflow_banana": 1.0})
