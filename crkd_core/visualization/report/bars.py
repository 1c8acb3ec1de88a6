"""Scores of models as bars: every panel is a small table whose cells hold bars, with their intervals as whiskers."""

from collections.abc import Sequence

from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.evaluation.statistics.slices import ALL, KINDS
from crkd_core.progress import format_count
from crkd_core.visualization.report.contents import ReportModel, Row
from crkd_core.visualization.report.markup import Markup, element, folded, joined, score, span, table

_SHOWN_KINDS = ("range", "speed")


def class_section(models: Sequence[ReportModel]) -> Markup:
    """Average precision of every class, a panel each, after mAP and NDS."""
    if not _has_breakdown(models):
        return _no_breakdown()
    whole = [model.row(ALL, ALL, ALL) for model in models]
    panels = [_panel("mAP", whole, models, "ap"), _panel("NDS", whole, models, "nds")]
    names = [name for name in DETECTION_CLASSES if any(model.row(ALL, ALL, name) for model in models)]
    for name in names:
        rows = [model.row(ALL, ALL, name) for model in models]
        panels.append(_panel(name.replace("_", " "), rows, models, "ap"))
    rows_of_table = [(name, *(_numbers(model.row(ALL, ALL, name), "ap") for model in models)) for name in names]
    columns = ["class", *(model.name for model in models)]
    return joined(
        (
            element("p", "Average precision, the mean over the match distances 0.5, 1, 2 and 4 m; longer is better. "),
            _interval_note(models),
            element("div", *panels, class_="panels"),
            folded("The same in numbers", table("Average precision by class, with intervals", columns, rows_of_table)),
        )
    )


def slice_sections(models: Sequence[ReportModel]) -> Markup:
    """mAP on the parts of the split: by range and speed, and folded by what else there is."""
    if not _has_breakdown(models):
        return _no_breakdown()
    parts = [
        element(
            "p",
            "mAP over the classes that have such objects. Compare models within a panel, not panels with each other.",
        ),
        _interval_note(models),
    ]
    for kind, meaning in KINDS.items():
        names = list(dict.fromkeys(row["slice"] for model in models for row in model.breakdown if row["kind"] == kind))
        if kind == ALL or not names:
            continue
        rows = {name: [model.row(kind, name, ALL) for model in models] for name in names}
        panels = element("div", *(_panel(name, rows[name], models, "ap") for name in names), class_="panels")
        columns = [kind.replace("-", " "), "objects", *(model.name for model in models)]
        cells = [(name, _objects(rows[name]), *(_numbers(row, "ap") for row in rows[name])) for name in names]
        numbers = folded("The same in numbers", table(f"mAP by {meaning}", columns, cells))
        title = f"By {meaning}"
        if kind in _SHOWN_KINDS:
            parts.append(element("section", element("h3", title), panels, numbers))
        else:
            parts.append(folded(title, panels, numbers))
    return joined(parts)


def model_key(models: Sequence[ReportModel]) -> Markup:
    """Which colour is which model."""
    items = [
        element("li", element("span", class_=f"swatch s{number}"), model.name)
        for number, model in enumerate(models, start=1)
    ]
    return element("ul", *items, class_="key", aria_label="Colours of the models")


def _panel(title: str, rows: Sequence[Row | None], models: Sequence[ReportModel], value: str) -> Markup:
    lines = []
    for number, (model, row) in enumerate(zip(models, rows, strict=True), start=1):
        shown = row[value] if row is not None else None
        low, high = (row[f"{value}_low"], row[f"{value}_high"]) if row is not None else (None, None)
        bar = [element("span", class_=f"bar s{number}", style=f"width:{100 * (shown or 0.0):.1f}%")]
        if low is not None and high is not None:
            style = f"left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"
            bar.append(element("span", class_="whisker", style=style))
        interval = span(low, high)
        lines.append(
            element(
                "tr",
                element("th", model.name, scope="row"),
                element("td", element("span", *bar, class_="track", title=f"95%: {interval}" if interval else None)),
                element("td", score(shown)),
            )
        )
    facts = element("small", _objects(rows))
    head = element("caption", element("b", title), " ", facts)
    return element("table", head, element("tbody", *lines), class_="bars")


def _objects(rows: Sequence[Row | None]) -> str:
    counts = [row["objects"] for row in rows if row is not None]
    return format_count(counts[0], "object") if counts else "no objects"


def _numbers(row: Row | None, value: str) -> str:
    if row is None:
        return "-"
    interval = span(row[f"{value}_low"], row[f"{value}_high"])
    return f"{score(row[value])} ({interval})" if interval else score(row[value])


def _interval_note(models: Sequence[ReportModel]) -> Markup:
    if any(row["ap_low"] is not None for model in models for row in model.breakdown):
        return element("p", "The thin line covers 95% of the resamples of the scenes; there is none where fewer than 5 "
                       "scenes have such objects.")  # fmt: skip
    return element("p", "There are no intervals: fewer than 5 scenes have such objects.")


def _has_breakdown(models: Sequence[ReportModel]) -> bool:
    return any(model.breakdown for model in models)


def _no_breakdown() -> Markup:
    return element("p", "There are no scores to break down.", class_="nothing")
