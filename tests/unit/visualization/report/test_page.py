"""The report as HTML: what it shows, what it says where something is missing, and that it needs nothing else."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from crkd_core.visualization.report.contents import Report, ReportModel
from crkd_core.visualization.report.line_chart import line_chart, line_style
from crkd_core.visualization.report.page import MOST_EMBEDDED, render_report
from crkd_core.visualization.training_curves import Curve
from tests.support.colour_vision import VISIONS, contrast, distances
from tests.support.reports import breakdown, curves, differences, full_report, metrics

COMMAND = "crkd compare distill/plain distill/crkd --split val"
VOID = ("img", "link", "meta", "br")


class Reader(HTMLParser):
    """Checks that elements close in the order in which they open, and keeps what matters."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.texts, self.ids = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(report, folder):
    return Reader(render_report(report, folder, COMMAND))


@pytest.fixture
def report(tmp_path):
    return full_report(tmp_path)


def test_nothing_is_fetched_and_everything_is_described(report, tmp_path):
    page = read(report, tmp_path)
    sources = [image["src"] for image in page.all("img")]
    assert len(sources) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all("scene-0103" in image["alt"] and "3 of 5 found" in image["alt"] for image in page.all("img"))
    references = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("href", "src")]
    assert not [value for value in references if re.match(r"(?!data:)\w+:|//", value)]
    assert not {"script", "iframe", "object"} & {tag for tag, _ in page.tags}
    for drawing in page.all("svg"):
        assert drawing.get("aria-hidden") == "true" or "from" in drawing["aria-label"]
    assert len(page.ids) == len(set(page.ids))
    assert {link["href"] for link in page.all("a") if link["href"].startswith("#")} <= {f"#{name}" for name in page.ids}
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")


def test_text_is_escaped(report, tmp_path):
    odd = replace(report, title="<script>alert(1)</script>")
    assert "<script>alert(1)</script>" in read(odd, tmp_path).texts
    assert 'rain <b> & "night"' in " ".join(read(odd, tmp_path).texts)


def test_of_many_pictures_the_page_stays_small(tmp_path):
    report = full_report(tmp_path, MOST_EMBEDDED + 1)
    assert [image["src"] for image in read(report, tmp_path).all("img")] == [
        f"{n}.png" for n in range(MOST_EMBEDDED + 1)
    ]


def test_equal_reports_give_equal_pages(report, tmp_path):
    assert render_report(report, tmp_path, COMMAND) == render_report(full_report(tmp_path), tmp_path, COMMAND)


def test_scores_bars_and_differences(report, tmp_path):
    page = read(report, tmp_path)
    assert {"0.200", "0.500", "\u25b2 better", "\u25bc worse", "within noise", "too few scenes"} <= set(page.texts)
    bars = [span for span in page.all("span") if span.get("class", "").startswith("bar ")]
    # mAP, NDS and ten classes, and every slice, for four models each.
    assert len(bars) == 4 * (2 + 10 + 3 + 4 + 2 + 2)
    assert {"width:20.0%", "width:50.0%"} <= {span["style"] for span in bars}
    best = [attributes for attributes in page.all("span") if attributes.get("class") == "best"]
    assert len(best) == 2 + 4 * 5


def test_every_chart_has_its_numbers_as_a_table(report, tmp_path):
    page = read(report, tmp_path)
    assert len(page.all("details")) >= len([one for one in page.all("svg") if one.get("role") == "img"])
    tables = page.all("table")
    assert page.all("caption").__len__() == len(tables)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"comparisons": ()}, COMMAND),
        ({"comparisons": (), "models": [ReportModel("one", "", metrics(0.3), breakdown(0.3))]}, "There is one model"),
        ({"models": [ReportModel("a"), ReportModel("b")]}, "are not public, so there are no scores"),
        ({"models": [ReportModel("a"), ReportModel("b")], "comparisons": ()}, "Without annotations there is nothing"),
        ({"models": [ReportModel("a", "", metrics(0.0))]}, "no scores to break down"),
        ({"models": [ReportModel("a")]}, "No training of these models"),
        ({"models": [ReportModel("a", "", metrics(0.3), breakdown(0.3, intervals=False))]}, "fewer than 5 scenes"),
        ({"models": [ReportModel("a", "", metrics(0.3), breakdown(0.3, classes=("car",)))]}, "car"),
        ({"models": [ReportModel("a", "", metrics(float("nan")))]}, "-"),
        ({"pictures": ()}, "No picture was drawn"),
    ],
)
def test_what_is_missing_is_said(report, tmp_path, change, sentence):
    assert sentence in " ".join(read(replace(report, **change), tmp_path).texts)


def test_a_model_without_training_or_scores_beside_others(report, tmp_path):
    mixed = replace(report, models=[*report.models[:2], ReportModel("results.json")])
    page = read(mixed, tmp_path)
    assert "No training is recorded of results.json." in page.texts


@pytest.mark.parametrize(
    "values", [[1.0], [0.0, 0.0], [5.0] * 9, [-1.0, 2.0], [1e-300, 1e300], [np.nan, 1.0], [np.nan], [np.inf], []]
)
@pytest.mark.parametrize("logarithmic", [True, False])
def test_odd_curves_are_drawn(values, logarithmic):
    curve = Curve(np.arange(len(values)), np.array(values, dtype=np.float64))
    chart = line_chart("loss", {"a": curve}, {"a": 3}, logarithmic)
    coordinates = re.findall(r'points="([^"]+)"|c[xy]="([^"]+)"|[xy][12]?="([^"]+)"', chart)
    numbers = [float(number) for group in coordinates for part in group for number in re.split("[ ,]", part) if number]
    assert all(-1 <= number <= 441 for number in numbers)
    assert "nothing was recorded" in chart or numbers


def test_losses_of_a_family_keep_their_line_in_every_chart():
    recorded = curves()
    numbers = {name: number for number, name in enumerate(recorded.losses)}
    whole = line_chart("a", recorded.losses, numbers)
    part = line_chart("b", {"respd": recorded.losses["respd"]}, numbers)
    line = re.search(r'class="line s\d"[^>]*></line></svg>respd', whole)[0]
    assert line in part


def test_differences_larger_than_the_scale_stay_inside(report, tmp_path):
    rows = differences(0.9)
    page = read(replace(report, comparisons=[replace(report.comparisons[0], rows=rows)]), tmp_path)
    dots = [
        float(re.search("left:([-0-9.]+)", span["style"])[1]) for span in page.all("span") if span.get("class") == "dot"
    ]
    assert dots
    assert all(0 <= dot <= 100 for dot in dots)


def colours_of(scheme):
    style = files("crkd_core.visualization.report").joinpath("style.css").read_text()
    first, second = style.split("@media (prefers-color-scheme: dark)")
    part = first if scheme == "light" else second.split("* {")[0]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", part))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_the_page(scheme):
    colours = colours_of(scheme)
    for text in ("text", "faint", "better", "worse", "s1"):
        assert contrast(colours[text], colours["page"]) > 4.5, text
        assert contrast(colours[text], colours["card"]) > 4.5, text
    series = [colours[f"s{number}"] for number in range(1, 9)]
    assert all(contrast(colour, colours["card"]) > 3 and contrast(colour, colours["track"]) > 3 for colour in series)
    dashes = [line_style(number).dashes for number in range(8)]
    for vision in VISIONS:
        apart = distances(series, series, vision)
        for first, second in combinations(range(8), 2):
            # Bars carry the names of their models; lines that look alike differ in their dashes.
            assert apart[first, second] > 8 or dashes[first] != dashes[second], (vision, first, second)


def test_reports_without_models_of_a_kind_have_no_empty_tables(report, tmp_path):
    bare = Report("bare", [], [ReportModel("a")])
    assert read(bare, tmp_path).all("table") == []
