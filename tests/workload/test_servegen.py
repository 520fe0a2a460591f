"""A service drawn client by client has the counts, bursts and lengths it was seen with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.model import ConfigError
from fairlead.workload.columns import TraceColumns, joined
from fairlead.workload.generate.servegen import ServeGen
from fairlead.workload.read_servegen import read_servegen

SHARED = Path(__file__).parents[2] / ".." / "shared" / "traces"


def service(
    folder: Path,
    rates: list[tuple[int, int, float, str, float]],
    lengths: list[tuple[int, int, str, list[int], list[int]]],
) -> str:
    names = ("client_id", "window_start_s", "rate_rps", "iat_family", "iat_shape")
    columns = dict(zip(names, map(list, zip(*rates, strict=True)), strict=True))
    pq.write_table(pa.table(columns), folder / "svc_rates.parquet")
    names = ("client_id", "window_start_s", "field", "values", "counts")
    columns = dict(zip(names, map(list, zip(*lengths, strict=True)), strict=True))
    pq.write_table(pa.table(columns), folder / "svc_lengths.parquet")
    return str(folder / "svc")


RATES = [
    (0, 0, 2.0, "Gamma", 1.0),
    (1, 0, 1.0, "Gamma", 0.05),
    (0, 600, 0.5, "Weibull", 0.4),
    (2, 600, 0.1, "Weibull", 2.0),
]
LENGTHS = [
    (0, 0, "input_tokens", [10, 20], [1, 1]),
    (0, 0, "output_tokens", [0, 3], [1, 1]),
    (0, 21600, "input_tokens", [99], [1]),
    (0, 21600, "output_tokens", [99], [1]),
    (1, 0, "input_tokens", [500], [7]),
    (1, 0, "output_tokens", [1], [7]),
]


def drawn(name: str, window_s: tuple[float, float] = (0, 1200), **fields: object) -> TraceColumns:
    rates, lengths = read_servegen(name)
    return joined(list(ServeGen(rates, lengths, window_s, **fields).parts()))  # type: ignore[arg-type]


def counted(made: TraceColumns, client: str, first_s: float, last_s: float) -> int:
    assert made.arrival_s is not None
    inside = (made.arrival_s >= first_s) & (made.arrival_s < last_s)
    return sum(t == client for t, i in zip(made.others["tenant"], inside, strict=True) if i)


def test_every_client_sends_what_was_counted_in_each_window(tmp_path: Path) -> None:
    made = drawn(service(tmp_path, RATES, LENGTHS))
    assert counted(made, "c0", 0, 600) == 1200
    assert counted(made, "c1", 0, 600) == 600
    assert counted(made, "c0", 600, 1200) == 300
    assert counted(made, "c2", 600, 1200) == 60
    assert made.arrival_s is not None
    assert (np.diff(made.arrival_s) >= 0).all()
    assert made.index.tolist() == list(range(2160))


def test_gaps_have_the_fitted_law(tmp_path: Path) -> None:
    made = drawn(service(tmp_path, RATES, LENGTHS), (0, 600))
    assert made.arrival_s is not None
    clients = np.array(made.others["tenant"])
    steady, bursty = (np.diff(made.arrival_s[clients == name]) for name in ("c0", "c1"))
    assert steady.std() / steady.mean() == pytest.approx(1, rel=0.15)
    assert bursty.std() / bursty.mean() > 3


def test_lengths_are_the_clients_own_of_the_nearest_hours(tmp_path: Path) -> None:
    made = drawn(service(tmp_path, RATES, LENGTHS))
    clients = np.array(made.others["tenant"])
    assert set(made.prompt_tokens[clients == "c0"].tolist()) == {10, 20}
    assert set(made.output_tokens[clients == "c0"].tolist()) == {1, 3}, "an output has one token"
    assert set(made.prompt_tokens[clients == "c1"].tolist()) == {500}


def test_a_client_without_lengths_takes_those_of_its_nearest_in_rate(tmp_path: Path) -> None:
    rates, lengths = read_servegen(service(tmp_path, RATES, LENGTHS))
    assert ServeGen(rates, lengths, (0, 1200)).lenders == {2: 1}


def test_a_window_is_cut_out_of_the_same_draws(tmp_path: Path) -> None:
    name = service(tmp_path, RATES, LENGTHS)
    made, part = drawn(name, seed=5), drawn(name, (300, 900), seed=5)
    assert made.arrival_s is not None
    assert part.arrival_s is not None
    inside = (made.arrival_s >= 300) & (made.arrival_s < 900)
    assert part.arrival_s == pytest.approx(made.arrival_s[inside] - 300)
    assert (part.prompt_tokens == made.prompt_tokens[inside]).all()


def test_seeds_and_rates(tmp_path: Path) -> None:
    name = service(tmp_path, RATES, LENGTHS)
    assert list(drawn(name, seed=1).rows()) == list(drawn(name, seed=1).rows())
    assert list(drawn(name, seed=1).rows()) != list(drawn(name, seed=2).rows())
    assert len(drawn(name, rate_rps=0.5)) == pytest.approx(600, abs=2)


def test_images_count_with_their_tokens(tmp_path: Path) -> None:
    fields = [
        ("text_tokens", [10], [1]),
        ("image_count", [0, 2], [1, 1]),
        ("image_tokens", [100], [1]),
        ("output_tokens", [5], [1]),
    ]
    lengths = [(0, 0, *field) for field in fields]
    made = drawn(service(tmp_path, [(0, 0, 1.0, "Gamma", 1.0)], lengths), (0, 600))
    assert set(made.prompt_tokens.tolist()) == {10, 210}


def test_bad_files_get_clear_messages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        read_servegen(str(tmp_path / "svc"))
    name = service(tmp_path, [(0, 0, 1.0, "Pareto", 1.0)], LENGTHS)
    with pytest.raises(ConfigError, match="iat_family is 'Pareto', expected Gamma or Weibull"):
        read_servegen(name)
    name = service(tmp_path, [(0, 0, -1.0, "Gamma", 1.0)], LENGTHS)
    with pytest.raises(ConfigError, match="below 0"):
        read_servegen(name)
    name = service(tmp_path, [(0, 0, float("nan"), "Gamma", 1.0)], LENGTHS)
    with pytest.raises(ConfigError, match="no finite number"):
        read_servegen(name)
    name = service(tmp_path, RATES, [(0, 0, "input_tokens", [], [])])
    with pytest.raises(ConfigError, match="impossible input_tokens"):
        read_servegen(name)
    name = service(tmp_path, RATES, LENGTHS[:1])
    with pytest.raises(ConfigError, match="lacks a length"):
        read_servegen(name)
    rates, lengths = read_servegen(service(tmp_path, RATES, LENGTHS))
    with pytest.raises(ConfigError, match="holds no request; the rates cover 0 to 1200 s"):
        ServeGen(rates, lengths, (5000, 6000))
    with pytest.raises(ConfigError, match="are the files of one service"):
        ServeGen(rates, type(lengths)({77: lengths.seen[0]}), (0, 1200))


@pytest.mark.skipif(not SHARED.exists(), reason="the shared traces are not on this machine")
def test_a_published_service_keeps_its_rate() -> None:
    rates, lengths = read_servegen(str(SHARED / "servegen_mm_image"))
    made = ServeGen(rates, lengths, (0, 3600))
    n_rows = sum(len(part) for part in made.parts())
    assert n_rows / 3600 == pytest.approx(rates.mean_rps((0, 3600)), rel=0.002)
