"""The page: scores, break-downs, differences, pictures and training curves of the models of a split."""

import base64
import io
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from PIL import Image

from crkd_core.artifacts.atomic import write_text
from crkd_core.evaluation.statistics.slices import ALL
from crkd_core.visualization.report.bars import class_section, model_key, slice_sections
from crkd_core.visualization.report.contents import Report, ReportModel, ReportPicture
from crkd_core.visualization.report.differences import difference_section
from crkd_core.visualization.report.markup import Markup, element, joined, score, span, table
from crkd_core.visualization.report.trainings import training_section

MOST_EMBEDDED = 12
"""Pictures that are part of the page; of more, the page shows the files beside it, so that it still opens."""
_PREVIEW_WIDTH_PX = 1600
_PREVIEW_QUALITY = 84
_ERRORS = ("mATE", "mASE", "mAOE", "mAVE", "mAAE")


def write_report(path: Path, report: Report, compare_command: str) -> None:
    """Write the page: one file that works anywhere, without a network, in light and dark.

    Raises:
        WriteError: the file cannot be written.
    """
    write_text(path, render_report(report, path.parent, compare_command))


def render_report(report: Report, folder: Path, compare_command: str) -> str:
    """The page as HTML.

    Args:
        folder: of the pictures.
        compare_command: that would compare two of the models, for where no comparison is finished.
    """
    sections: tuple[tuple[str, str, Callable[[], Markup]], ...] = (
        ("scores", "Scores", lambda: _scores(report.models)),
        ("classes", "By class", lambda: class_section(report.models)),
        ("parts", "By range and speed", lambda: slice_sections(report.models)),
        ("differences", "Differences and noise", lambda: difference_section(report, compare_command)),
        ("pictures", "Pictures", lambda: _pictures(report.pictures, folder)),
        ("training", "Training", lambda: training_section(report.models)),
    )
    links = [element("li", element("a", title, href=f"#{name}")) for name, title, _ in sections]
    facts = [joined((element("dt", name), element("dd", value))) for name, value in report.facts]
    body = [
        element("header", element("h1", report.title), element("dl", *facts)),
        element("nav", element("ul", *links), aria_label="Sections"),
        element("main", *(_section(name, title, content()) for name, title, content in sections)),
    ]
    style = files("crkd_core.visualization.report").joinpath("style.css").read_text(encoding="utf-8")
    head = [
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        # Browsers ask for an icon unless there is one.
        element("link", rel="icon", href="data:,"),
        element("title", report.title),
        element("style", Markup(style)),
    ]
    page = element("html", element("head", *head), element("body", *body), lang="en")
    return f"<!doctype html>\n{page}\n"


def _section(name: str, title: str, content: Markup) -> Markup:
    return element(
        "section", element("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title"
    )


def _scores(models: Sequence[ReportModel]) -> Markup:
    if all(model.metrics is None for model in models):
        return element("p", "The annotations of this split are not public, so there are no scores.", class_="nothing")
    values = [
        None if model.metrics is None else (model.metrics.mean_ap, model.metrics.nds, *model.metrics.errors)
        for model in models
    ]
    scored = [numbers for numbers in values if numbers is not None]
    best = [max(column) if index < 2 else min(column) for index, column in enumerate(zip(*scored, strict=True))]
    rows: list[list[str | Markup]] = []
    for model, numbers in zip(models, values, strict=True):
        shown = (None,) * len(best) if numbers is None else numbers
        cells: list[str | Markup] = [
            element("span", score(value), class_="best" if len(scored) > 1 and value == top else None)
            for value, top in zip(shown, best, strict=True)
        ]
        whole = model.row(ALL, ALL, ALL)
        intervals = [span(whole[f"{name}_low"], whole[f"{name}_high"]) if whole else "" for name in ("ap", "nds")]
        rows.append([model.name, model.sensors, cells[0], intervals[0], cells[1], intervals[1], *cells[2:]])
    columns = ("model", "sees", "mAP", "95%", "NDS", "95%", *_ERRORS)
    note = "mAP and NDS: higher is better; errors: lower is better. Intervals: 95% of the resamples of the scenes."
    return joined((table("The nuScenes metrics", columns, rows), element("p", note), model_key(models)))


def _pictures(pictures: Sequence[ReportPicture], folder: Path) -> Markup:
    if not pictures:
        return element("p", "No picture was drawn.", class_="nothing")
    is_embedded = len(pictures) <= MOST_EMBEDDED
    return joined(_picture(picture, folder, is_embedded) for picture in pictures)


def _picture(picture: ReportPicture, folder: Path, is_embedded: bool) -> Markup:
    outcomes = "; ".join(picture.outcomes)
    described = f"Camera images and bird's-eye views of {picture.scene} ({picture.condition}). {outcomes}."
    with Image.open(folder / picture.file) as image:
        width, height = image.size
        source = _preview(image) if is_embedded else picture.file
    drawn = element(
        "img", src=source, alt=described, width=str(width), height=str(height), loading=None if is_embedded else "lazy"
    )
    lines = [element("span", picture.condition), element("span", outcomes), element("span", f"sample {picture.token}")]
    caption = element("figcaption", picture.scene, *lines)
    return element("figure", caption, element("a", drawn, href=picture.file), class_="picture")


def _preview(image: Image.Image) -> str:
    """As a data URL, smaller than the file."""
    size = _PREVIEW_WIDTH_PX, round(image.height * _PREVIEW_WIDTH_PX / image.width)
    smaller = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # Without chroma subsampling, which would blur thin coloured lines.
    smaller.save(buffer, format="JPEG", quality=_PREVIEW_QUALITY, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
