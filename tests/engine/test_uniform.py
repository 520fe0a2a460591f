"""The counter-based generator."""

from __future__ import annotations

from statistics import mean

from fairlead.engine.uniform import _scramble, uniform


def test_it_is_the_finalizer_of_splitmix64() -> None:
    """The first outputs of the published generator for the seed 1234567."""
    golden, state = 0x9E3779B97F4A7C15, 1234567
    outputs = [_scramble((state + (i + 1) * golden) % 2**64) for i in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_numbers_are_fixed_for_all_time() -> None:
    """A change here would make streams under way continue differently after an upgrade."""
    assert [uniform(0, 0), uniform(0, 1), uniform(7, 0)] == [
        0.6524484863740322,
        0.7012121095215252,
        0.7215081806049702,
    ]


def test_any_integer_is_a_seed() -> None:
    for seed in (-1, 0, 2**63, 2**64 + 5, -(2**70)):
        assert 0.0 <= uniform(seed, 0) < 1.0
    assert uniform(2**64 + 5, 3) == uniform(5, 3)


def test_numbers_are_spread_evenly_along_positions_and_along_seeds() -> None:
    for numbers in (
        [uniform(3, position) for position in range(4000)],
        [uniform(seed, 3) for seed in range(4000)],
        [uniform(i, i) for i in range(4000)],
    ):
        assert abs(mean(numbers) - 0.5) < 0.02
        tenths = [sum(int(number * 10) == i for number in numbers) for i in range(10)]
        assert max(abs(n - 400) for n in tenths) < 100
        assert len(set(numbers)) == 4000


def test_neighbouring_seeds_do_not_share_a_shifted_stream() -> None:
    first = {uniform(1, position) for position in range(1000)}
    assert not first & {uniform(2, position) for position in range(1000)}
