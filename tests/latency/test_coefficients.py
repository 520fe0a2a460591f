"""Flat mappings become models, and what is wrong with them is said at once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from fairlead.latency import Linear, ThirteenCoefficients, from_coefficients
from fairlead.latency.forms import Form
from fairlead.model import ConfigError
from tests.latency.test_forms import RTX, forms


@given(forms)
def test_a_model_survives_its_own_mapping(model: Form) -> None:
    assert from_coefficients(model.coefficients()) == model


def test_weights_decide_the_form() -> None:
    assert isinstance(from_coefficients({"base_s": 0.01}), Linear)
    assert isinstance(from_coefficients(RTX.coefficients()), ThirteenCoefficients)


def test_equal_mappings_share_one_model() -> None:
    assert from_coefficients(RTX.coefficients()) is from_coefficients(RTX.coefficients())


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_not_identifiable_takes_the_documented_default(unknown: float | None) -> None:
    mapping = {**RTX.coefficients(), "prefill_s_per_context_token": unknown}
    model = from_coefficients(mapping)
    assert isinstance(model, ThirteenCoefficients)
    assert model.prefill_s_per_context_token == RTX.decode_s_per_context_token
    left_out = {k: v for k, v in mapping.items() if k != "prefill_s_per_context_token"}
    assert from_coefficients(left_out) == model


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({}, ["there are none"]),
        ({"bases": 1.0}, ["'bases'", "did you mean 'base_s'"]),
        ({"base_s": 0.1, "banana": 1.0}, ["'banana' is not known", "gemm_s_per_token"]),
        ({"base_s": 0.1, "sharpness": 2.0}, ["'sharpness'", "weights_s"]),
        ({"base_s": -1.0}, ["base_s is -1", "0 or more"]),
        ({"base_s": math.inf}, ["base_s is inf"]),
        ({"base_s": math.nan}, ["base_s is nan"]),
        ({"base_s": None}, ["base_s is None", "must be a number"]),
        ({"base_s": True}, ["base_s is True"]),
        ({"base_s": "fast"}, ["base_s is 'fast'"]),
        ({"base_s": 0.0}, ["a step would take no time"]),
        ({"weights_s": 0.01}, ["gemm_s_per_token is missing", "sharpness is missing"]),
        ({**RTX.coefficients(), "sharpness": 0.5}, ["sharpness is 0.5", "1 or more"]),
    ],
)
def test_a_wrong_mapping_is_refused_with_the_reason(
    mapping: dict[str, float | None], said: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        from_coefficients(mapping)
    for part in said:
        assert part in str(caught.value)


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        from_coefficients({"bse_s": 1.0, "gemm_s_per_token": -1.0, "prefill_s_per_pair": math.inf})
    message = str(caught.value)
    assert "base_s" in message
    assert "gemm_s_per_token is -1" in message
    assert "prefill_s_per_pair is inf" in message


def test_a_model_built_by_hand_is_checked_as_well() -> None:
    with pytest.raises(ConfigError, match="base_s is -1"):
        Linear(base_s=-1.0)
