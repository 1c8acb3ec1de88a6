"""The report in a real browser: nothing reaches beyond a narrow or a wide window, and everything loads."""

from dataclasses import replace

import pytest

from crkd_core.visualization.report.contents import Report, ReportModel
from crkd_core.visualization.report.page import MOST_EMBEDDED, write_report
from tests.support.browser import open_page
from tests.support.reports import breakdown, full_report, metrics


@pytest.mark.parametrize("pictures", [2, MOST_EMBEDDED + 1])
def test_the_whole_report(tmp_path, pictures):
    write_report(tmp_path / "index.html", full_report(tmp_path, pictures), "crkd compare a b")
    views, complaints = open_page(tmp_path / "index.html", tmp_path, (400, 1400))
    assert complaints == []
    # Less a scroll bar.
    assert [round(view.width, -2) for view in views] == [400, 1400]
    for view in views:
        assert view.needed <= view.width, view.wide
        assert view.wide == []
        assert view.cut == []
        assert view.images == pictures
        # Of many pictures, those far below are loaded when they are reached.
        assert view.broken == 0 or pictures > MOST_EMBEDDED


def test_it_follows_the_light_of_the_system(tmp_path):
    write_report(tmp_path / "index.html", full_report(tmp_path), "crkd compare a b")
    colours = [open_page(tmp_path / "index.html", tmp_path, (400,), dark)[0][0].colour for dark in (False, True)]
    assert colours == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]


def test_scant_reports_fit_too(tmp_path):
    one = ReportModel("a_model_of_a_very_long_name_without_any_place_to_break_it", "", metrics(0.3), breakdown(0.3))
    report = Report("x" * 90, [("samples", "1 of val")], [replace(one, breakdown=())])
    write_report(tmp_path / "index.html", report, "crkd compare a b")
    (view,), complaints = open_page(tmp_path / "index.html", tmp_path, (400,))
    assert (complaints, view.needed <= view.width, view.wide) == ([], True, [])
