"""The closed forms, and what effects make of them, agree with their own single steps, invert
exactly, and never fall."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from fairlead.latency import Linear, Model, Nanoflow, SemiPd, StepShape, ThirteenCoefficients
from fairlead.latency.forms import MAX_PREFILL_TOKENS, Form
from fairlead.latency.price import p_norm
from fairlead.model.step import MAX_ITERATIONS


def zero_or(least: float, most: float) -> st.SearchStrategy[float]:
    return st.just(0.0) | st.floats(least, most)


linears = st.builds(
    Linear,
    base_s=st.floats(1e-5, 1e-1),
    gemm_s_per_token=zero_or(1e-8, 1e-3),
    decode_s_per_sequence=zero_or(1e-8, 1e-3),
    decode_s_per_context_token=zero_or(1e-10, 1e-5),
    prefill_s_per_pair=zero_or(1e-12, 1e-6),
)
thirteens = st.builds(
    ThirteenCoefficients,
    weights_s=st.floats(1e-5, 1e-1),
    gemm_s_per_token=zero_or(1e-8, 1e-3),
    sharpness=st.floats(1.0, 300.0),
    base_s=zero_or(1e-6, 1e-2),
    host_s=zero_or(1e-6, 1e-2),
    sample_s_per_sequence=zero_or(1e-8, 1e-4),
    decode_base_s=zero_or(1e-6, 1e-2),
    decode_s_per_sequence=zero_or(1e-8, 1e-4),
    decode_s_per_context_token=zero_or(1e-10, 1e-5),
    prefill_base_s=zero_or(1e-6, 1e-2),
    walk_s_per_context_token=zero_or(1e-9, 1e-5),
    prefill_s_per_context_token=zero_or(1e-10, 1e-5) | st.just(math.nan),
    prefill_s_per_pair=zero_or(1e-12, 1e-6),
    prefill_s_per_sequence=zero_or(1e-8, 1e-4) | st.just(math.nan),
)
forms: st.SearchStrategy[Form] = linears | thirteens
nanoflows = st.builds(
    Nanoflow,
    form=forms,
    interference=zero_or(0.01, 1.0),
    dense_tokens=st.floats(1.0, 8192.0),
    network_fraction=zero_or(0.01, 0.9),
)
semi_pds = st.builds(
    SemiPd,
    form=forms,
    prefill_share=st.floats(0.05, 1.0),
    decode_share=st.floats(0.05, 1.0),
    contention=st.floats(1.0, 2.0),
    saturating_share=st.floats(0.1, 1.0),
)
models: st.SearchStrategy[Model] = forms | nanoflows | semi_pds


@st.composite
def decode_shapes(draw: st.DrawFn) -> StepShape:
    decodes = draw(st.integers(1, 2048))
    longest = draw(st.integers(1, 131072))
    context = draw(st.integers(decodes, decodes * longest))
    return StepShape(decodes, context, 0, 0.0, longest, decodes)


@st.composite
def shapes(draw: st.DrawFn) -> StepShape:
    shape = draw(decode_shapes() | st.just(StepShape()))
    tokens = draw(st.integers(0, 20000))
    start = draw(st.integers(0, 100000)) if tokens else 0
    return structs.replace(
        shape,
        prefill_tokens=tokens,
        prefill_pairs=tokens * (start + tokens / 2),
        longest=max(shape.longest, start + tokens),
        sampled=shape.sampled + draw(st.integers(0, 1 if tokens else 0)),
    )


def after(shape: StepShape, iterations: int) -> StepShape:
    """The shape of a decode-only step that many iterations later."""
    return structs.replace(
        shape,
        decode_context=shape.decode_context + iterations * shape.decodes,
        longest=shape.longest + iterations,
    )


@given(models, decode_shapes(), st.integers(0, 300))
def test_a_run_lasts_as_long_as_its_steps_together(model: Model, shape: StepShape, n: int) -> None:
    singly = math.fsum(model.step_s(after(shape, j)) for j in range(n))
    assert model.run_s(shape, n) == pytest.approx(singly, rel=1e-12, abs=1e-12)


@given(models, decode_shapes(), st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_run_can_be_cut_anywhere(model: Model, shape: StepShape, n: int, cut: int) -> None:
    cut = min(cut, n)
    parts = model.run_s(shape, cut) + model.run_s(after(shape, cut), n - cut)
    assert model.run_s(shape, n) == pytest.approx(parts, rel=1e-9)


@given(models, decode_shapes(), st.integers(0, 10**7))
def test_exactly_the_time_of_n_iterations_holds_n(model: Model, shape: StepShape, n: int) -> None:
    assert model.iterations_within(shape, model.run_s(shape, n)) == n


@given(models, decode_shapes(), st.floats(0, 1e5))
def test_one_iteration_more_would_not_fit(model: Model, shape: StepShape, seconds: float) -> None:
    n = model.iterations_within(shape, seconds)
    assert n >= 0
    assert n == 0 or model.run_s(shape, n) <= seconds
    assert model.run_s(shape, n + 1) > seconds


@given(models, decode_shapes())
def test_just_less_than_a_step_holds_none(model: Model, shape: StepShape) -> None:
    assert model.iterations_within(shape, math.nextafter(model.step_s(shape), 0)) == 0
    assert model.iterations_within(shape, -1.0) == 0


@pytest.mark.parametrize("growth", [0.0, 1e-8])
def test_endless_time_has_an_answer(growth: float) -> None:
    model = Linear(base_s=0.01, decode_s_per_context_token=growth)
    assert model.iterations_within(StepShape(8, 800, 0, 0.0, 100, 8), math.inf) == MAX_ITERATIONS
    assert model.prefill_within(StepShape(), math.inf, 0) == MAX_PREFILL_TOKENS


@given(models, shapes(), st.floats(0, 10), st.integers(0, 100000))
def test_one_prefill_token_more_would_not_fit(
    model: Model, shape: StepShape, seconds: float, start: int
) -> None:
    def with_chunk(n: int) -> float:
        return model.step_s(
            StepShape(
                shape.decodes,
                shape.decode_context,
                shape.prefill_tokens + n,
                shape.prefill_pairs + n * (start + n / 2),
                max(shape.longest, start + n),
                shape.sampled + 1,
            )
        )

    n = model.prefill_within(shape, seconds, start)
    assert n == 0 or with_chunk(n) <= seconds
    assert n == MAX_PREFILL_TOKENS or with_chunk(n + 1) > seconds
    if model.step_s(shape) > seconds:
        assert n == 0


@pytest.mark.parametrize(
    "field",
    ["decodes", "decode_context", "prefill_tokens", "prefill_pairs", "longest", "sampled"],
)
@given(model=models, shape=shapes(), more=st.integers(1, 5000))
@settings(max_examples=60)
def test_no_field_makes_a_step_shorter(
    field: str, model: Model, shape: StepShape, more: int
) -> None:
    """Also where the first prefill token changes the branch of the attention."""
    larger = structs.replace(shape, **{field: getattr(shape, field) + more})
    assert model.step_s(larger) >= model.step_s(shape) * (1 - 1e-14)


@given(linears)
def test_linear_adds_up_its_terms(model: Linear) -> None:
    shape = StepShape(3, 300, 50, 1250.0, 120, 4)
    assert model.step_s(shape) == pytest.approx(
        model.base_s
        + 53 * model.gemm_s_per_token
        + 3 * model.decode_s_per_sequence
        + 300 * model.decode_s_per_context_token
        + 1250 * model.prefill_s_per_pair
    )


RTX = ThirteenCoefficients(
    weights_s=7.878e-3,
    gemm_s_per_token=36.6632e-6,
    sharpness=1.8402,
    base_s=0.9423e-3,
    sample_s_per_sequence=0.4438e-5,
    decode_base_s=2.3393e-3,
    decode_s_per_sequence=0.0,
    decode_s_per_context_token=9.0544e-8,
    prefill_base_s=2.5377e-3,
    walk_s_per_context_token=7.0736e-7,
    prefill_s_per_context_token=14.4037e-8,
    prefill_s_per_pair=2.12954e-9,
    prefill_s_per_sequence=1.9093e-5,
)


@pytest.mark.parametrize("shares", [(1.0, 0.5), (0.5, 1.0)])
def test_a_step_of_nothing_is_no_longer_than_one_of_either_phase(
    shares: tuple[float, float],
) -> None:
    prompts, decodes = shares
    model = SemiPd(form=RTX, prefill_share=prompts, decode_share=decodes, saturating_share=1.0)
    nothing_s = model.step_s(StepShape(0, 0, 0, 0.0, 0, 0))
    assert nothing_s <= model.step_s(StepShape(0, 0, 1, 0.5, 1, 1))
    assert nothing_s <= model.step_s(StepShape(1, 1, 0, 0.0, 0, 1))


def test_thirteen_is_the_formula_of_the_design() -> None:
    """Written out term by term, for a decode-only and for both kinds of mixed step."""
    p, w, g = 1.8402, 7.878e-3, 36.6632e-6
    gemm = (w**p + (g * 64) ** p) ** (1 / p)
    decode = StepShape(64, 64000, 0, 0.0, 1000, 64)
    assert RTX.step_s(decode) == pytest.approx(
        0.9423e-3 + gemm + 64 * 0.4438e-5 + 2.3393e-3 + 64000 * 9.0544e-8
    )
    gemm = (w**p + (g * 80) ** p) ** (1 / p)
    worked = StepShape(64, 64000, 16, 128.0, 1000, 64)
    assert RTX.step_s(worked) == pytest.approx(
        0.9423e-3
        + gemm
        + 64 * 0.4438e-5
        + 2.5377e-3
        + (64000 * 14.4037e-8 + 128 * 2.12954e-9 + 64 * 1.9093e-5)
    )
    walked = structs.replace(worked, longest=60000)
    assert RTX.step_s(walked) == pytest.approx(
        0.9423e-3 + gemm + 64 * 0.4438e-5 + 2.5377e-3 + 60000 * 7.0736e-7
    )


def test_the_host_is_paid_once_a_step() -> None:
    with_host = replace(RTX, host_s=1.5e-3)
    shape = StepShape(64, 64000, 512, 512 * 256.0, 1000, 65)
    assert with_host.step_s(shape) - RTX.step_s(shape) == pytest.approx(1.5e-3)


def test_unmeasured_mixed_steps_cost_what_pure_ones_do() -> None:
    model = replace(
        RTX,
        decode_s_per_sequence=3e-6,
        prefill_s_per_context_token=math.nan,
        prefill_s_per_sequence=math.nan,
    )
    assert model.prefill_s_per_context_token == model.decode_s_per_context_token
    assert model.prefill_s_per_sequence == 3e-6


def test_a_thin_chunk_makes_the_decodes_beside_it_dearer() -> None:
    """Measured on the RTX PRO 6000: 13.0 ms become 21.5 ms (128 decodes, 1k context each)."""
    pure = StepShape(128, 128 * 1024, 0, 0.0, 1024, 128)
    mixed = structs.replace(pure, prefill_tokens=16, prefill_pairs=128.0)
    assert RTX.step_s(mixed) - RTX.step_s(pure) > 5e-3


@given(models, shapes())
def test_a_price_does_not_depend_on_what_was_asked_before(model: Model, shape: StepShape) -> None:
    fresh = replace(model)
    first = model.step_s(shape)
    assert model.step_s(shape) == first == fresh.step_s(shape)


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0), st.floats(1.0, 400.0))
def test_the_norm_lies_between_the_greater_and_the_sum(a: float, b: float, p: float) -> None:
    assume(a != b)
    assert max(a, b) <= p_norm(a, b, p) <= (a + b) * (1 + 1e-12)
