"""A comparison in the terminal and on its page."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from matplotlib import image
from rich.console import Console

from fairlead.client.capacity_table import print_capacities
from fairlead.client.comparison import groups, mark, most_telling, strokes, worst_tenants
from fairlead.client.comparison_page import comparison_page
from fairlead.client.comparison_table import print_comparison
from fairlead.client.heatmap import COLUMNS, heatmap, largest
from tests.client.comparisons import comparison, load


def table(found: dict[str, Any]) -> str:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    print_comparison(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_groups_stand_in_order_of_trace_and_rate_best_first() -> None:
    found = groups(comparison())
    assert [group.title for group in found] == ["a at 10 requests/s", "a at 20 requests/s"]
    assert [cell["rank"] for cell in found[0].cells] == [1, 2, 3, 4]
    assert [mark(cell) for cell in found[0].cells] == ["★", "≈", "", ""]
    assert groups(comparison((None,)))[0].title == "a at its own pace, 1 requests/s"


def test_the_table_fits_a_terminal_and_marks_the_best() -> None:
    text = table(comparison(seeds=3))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "★  round-robin + fcfs" in text
    assert "≈  round-robin + slack" in text
    assert "±0.3" in text
    assert "Means of 3 seeds" in text
    assert "seeds" not in table(comparison())


class Tags(HTMLParser):
    """Counts tags, and what an address of theirs would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "image", "rect", "line", "path", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open and self.open.pop() != tag:
                pass

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.seen)


def test_the_page_stands_alone_and_shows_everything() -> None:
    page = comparison_page(comparison(seeds=2), "fairlead compare a <b>")
    tags = Tags(page)
    assert not tags.open
    assert "<h1>Routing and batching compared: a</h1>" in page
    # Nothing is fetched and nothing runs.
    assert tags.count("script") == tags.count("link") == tags.count("img") == 0
    addresses = [attrs[key] for _, attrs in tags.seen for key in ("src", "href") if key in attrs]
    assert all(str(address).startswith(("data:", "#")) for address in addresses)
    assert "fairlead compare a &lt;b&gt;" in page
    # A section for each rate, and inside it a timeline for each variant.
    assert re.findall(r"<details class='load'( open)?>", page) == [" open", ""]
    assert page.count("<summary>round-robin + fcfs</summary>") == 2
    assert page.count("data:image/png;base64,") == 2 * 4 * 4
    assert "fared worst over all" not in page
    for words in ("Goodput against rate", "Latencies against the objectives", "Who suffered"):
        assert words in page


def test_one_rate_is_no_curve_and_names_from_outside_write_no_html() -> None:
    found = comparison((10.0,), tenants=4)
    for cell in found["cells"]:
        cell["label"] = "<script>" + cell["label"]
        cell["trace"] = "<i>a"
    page = comparison_page(found, "")
    assert "Goodput against rate" not in page
    assert "Of 4 tenants" in page
    assert not {"script", "i"} & {tag for tag, _ in Tags(page).seen}


def test_the_rate_at_which_the_variants_differ_most_is_the_one_to_open() -> None:
    found = comparison()
    for cell in found["cells"][4:]:
        cell["over_seeds"]["attainment"]["mean"] = 1.0 - 0.2 * cell["variant"]
    assert most_telling(groups(found)).title == "a at 20 requests/s"


def test_of_two_axes_the_first_gives_the_colour_and_the_second_the_stroke() -> None:
    style = strokes(comparison())
    assert style[0]["color"] == style[1]["color"] != style[2]["color"]
    assert style[0]["ls"] == style[2]["ls"] != style[1]["ls"]
    many = comparison((10.0,))
    many["vary"] = {"x": [str(i) for i in range(4)]}
    assert len({(s["color"], str(s["ls"])) for s in strokes(many)}) == 4


def test_tenants_that_fared_worst_come_first_and_tiny_ones_do_not_count() -> None:
    cells = comparison((10.0,), tenants=4)["cells"]
    # Odd tenants hold the interactive requests, which are the ones that miss.
    assert set(worst_tenants(cells, 2)) == {"t1", "t3"}
    assert worst_tenants(comparison((10.0,), tenants=20)["cells"], 2) == []


def pixels(svg: str) -> np.ndarray[Any, Any]:
    found = re.search(r"base64,([^\"]+)", svg)
    assert found is not None
    picture: np.ndarray[Any, Any] = image.imread(io.BytesIO(base64.b64decode(found[1])), "png")
    return picture


def test_a_heatmap_is_a_row_an_instance_and_darker_is_more() -> None:
    quiet, full = dict(load(40)["i0"]), dict(load(40)["i0"])
    quiet["running"], full["running"] = [0.0] * 40, [9.0] * 40
    both = {"quiet": quiet, "full": full}
    svg = heatmap(both, "running", "sequences running", largest([both], "running"), 80.0)
    picture = pixels(svg)
    assert picture.shape[:2] == (2, COLUMNS)
    brightness = picture[:, : COLUMNS // 4, :3].mean(axis=(1, 2))
    assert brightness[0] > 0.9 > 0.5 > brightness[1]
    # The samples end half way; what was not measured is transparent.
    assert (picture[:, -10:, 3] == 0).all()
    assert (picture[:, : COLUMNS // 4, 3] == 1).all()
    assert "darkest: 9" in svg


@pytest.mark.parametrize("series", [{}, {"i0": {"t_s": [], "running": []}}])
def test_a_heatmap_of_nothing_is_still_a_picture(series: dict[str, Any]) -> None:
    assert (pixels(heatmap(series, "running", "x", 0.0, 0.0))[..., 3] == 0).all()


def capacity(label: str, rate: float | None, bounded: bool = True) -> dict[str, Any]:
    summary = comparison((10.0,))["cells"][0]["summary"]
    return {
        "label": label,
        "rate_rps": rate,
        "attainment": 0.9,
        "bounded": bounded,
        "probes": [{"rate_rps": 0.5, "attainment": 0.4}],
        "summary": summary,
    }


def test_capacities_stand_best_first_with_what_they_do_not_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    policies = [
        capacity("slow", 50.0),
        capacity("quick", 100.0),
        capacity("none", None),
        capacity("any", 80.0, bounded=False),
    ]
    found = {"trace": "a.parquet", "fleet": "two", "attain": 0.9, "seed": 0, "policies": policies}
    print_capacities(found)
    text = capsys.readouterr().out
    order = [line.split()[0] for line in text.splitlines() if line[:5].strip() and "%" in line]
    assert order[1:5] == ["quick", "any", "slow", "none"]
    assert "█" * 14 in text
    assert "> 80" in text
    assert "none: even at 0.5 requests/s only" in text
    assert "any: no rate was too high" in text
    assert "slow: the run at that rate was over in" in text
