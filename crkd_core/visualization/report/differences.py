"""Differences of two models with their intervals, as dots on a common scale around zero."""

from collections.abc import Sequence

from crkd_core.evaluation.statistics.slices import ALL, KINDS
from crkd_core.visualization.report.contents import Report, ReportComparison, Row
from crkd_core.visualization.report.markup import Markup, element, folded, joined, scrolling, signed

_SHOWN_KINDS = ("range", "speed")
_LINES = (
    "The lines cover 95% of the differences on the same resampled scenes; a difference is beyond the noise where its "
    "line leaves out zero."
)
_STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def difference_section(report: Report, compare_command: str) -> Markup:
    """Every comparison of the shown models, or what would make one."""
    if not report.comparisons:
        return _nothing(report, compare_command)
    return joined(_comparison(comparison) for comparison in report.comparisons)


def _comparison(comparison: ReportComparison) -> Markup:
    first, second = comparison.first, comparison.second
    whole = [row for row in comparison.rows if row["kind"] == ALL]
    rows = [("NDS", row, "nds") for row in whole[:1]]
    rows += [("mAP" if row["class"] == ALL else row["class"].replace("_", " "), row, "ap") for row in whole]
    parts = [
        element("h3", f"{second} against {first}"),
        element("p", f"Dots right of the middle: {second} is better. {_LINES}"),
        _rows(f"{second} less {first}, by class", rows),
    ]
    for kind, meaning in KINDS.items():
        of_kind = [row for row in comparison.rows if row["kind"] == kind and row["class"] == ALL]
        if kind != ALL and of_kind:
            caption = f"mAP by {meaning}"
            drawn = _rows(f"{second} less {first}: {caption}", [(row["slice"], row, "ap") for row in of_kind])
            parts.append(element("div", drawn) if kind in _SHOWN_KINDS else folded(caption, drawn))
    return element("section", *parts)


def _rows(caption: str, rows: Sequence[tuple[str, Row, str]]) -> Markup:
    numbers = [
        abs(row[f"{value}_{column}"])
        for _, row, value in rows
        for column in ("difference", "low", "high")
        if row[f"{value}_{column}"] is not None
    ]
    largest = next((step for step in _STEPS if step >= max(numbers, default=0.0)), _STEPS[-1])
    lines = [_line(name, row, value, largest) for name, row, value in rows]
    scale = element(
        "span", *(element("span", end) for end in (f"\u2212{largest:g}", "0", f"+{largest:g}")), class_="scale"
    )
    columns = ("", "objects", scale, "difference", "95%", "verdict")
    head = element("thead", element("tr", *(element("th", column, scope="col") for column in columns)))
    whole = element("table", element("caption", caption), head, element("tbody", *lines), class_="differences")
    return scrolling(caption, whole)


def _line(name: str, row: Row, value: str, largest: float) -> Markup:
    difference, low, high = (row[f"{value}_{column}"] for column in ("difference", "low", "high"))
    judged = row[f"{value}_beyond_noise"]
    if judged is None:
        verdict, class_ = "too few scenes", "unknown"
    elif judged:
        verdict, class_ = ("\u25b2 better", "better") if difference > 0 else ("\u25bc worse", "worse")
    else:
        verdict, class_ = "within noise", "unknown"
    marks = []
    if low is not None:
        left, right = _position(low, largest), _position(high, largest)
        marks.append(element("span", class_="interval", style=f"left:{left:.1f}%;width:{right - left:.1f}%"))
    if difference is not None:
        marks.append(element("span", class_="dot", style=f"left:{_position(difference, largest):.1f}%"))
    interval = "-" if low is None else f"{signed(low)} to {signed(high)}"
    return element(
        "tr",
        element("th", name, scope="row"),
        element("td", str(row["objects"])),
        element("td", element("span", *marks, class_=f"around-zero {class_}")),
        element("td", signed(difference)),
        element("td", interval),
        element("td", verdict, class_=class_),
    )


def _position(difference: float, largest: float) -> float:
    """Per cent of the width."""
    return 50 + 50 * min(max(difference / largest, -1.0), 1.0)


def _nothing(report: Report, compare_command: str) -> Markup:
    if len(report.models) < 2:
        return element("p", "There is one model, so there is nothing to compare it with.", class_="nothing")
    if all(model.metrics is None for model in report.models):
        return element("p", "Without annotations there is nothing to compare by.", class_="nothing")
    text = "None of these models were compared with each other. This tells which differences are beyond the noise: "
    return element("p", text, element("code", compare_command), class_="nothing")
