"""How many random cases are played."""

from __future__ import annotations

import pytest

N_CASES = 50


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--vllm-cases",
        type=int,
        default=N_CASES,
        help="random cases of each kind held against vLLM; with the path tests/vllm only",
    )


@pytest.fixture
def n_cases(request: pytest.FixtureRequest) -> int:
    """In a run of all tests this file is read too late to add its option."""
    n: int = request.config.getoption("--vllm-cases", N_CASES)
    return n
