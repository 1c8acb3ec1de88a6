"""The whole picture of a sample: cameras above, BEV panels below, one legend."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from crkd_core.artifacts.atomic import atomic_path
from crkd_core.visualization.bev import ARROW_SECONDS, draw_gt_panel, draw_model_panel
from crkd_core.visualization.cameras import draw_camera
from crkd_core.visualization.palette import (
    BACKGROUND,
    CLASS_COLOURS,
    FAINT_TEXT,
    FALSE_POSITIVE,
    GROUND_TRUTH,
    MARK,
    MISSED,
    RADAR,
    TEXT,
    TRUE_POSITIVE,
)
from crkd_core.visualization.views import SampleView

WIDTH_PX = 2000
_DPI = 100
_MARGIN_PX = 28.0
_GAP_PX = 10.0
_HEADER_PX = 92.0
_PANEL_TITLE_PX = 62.0
_LEGEND_PX = 84.0
_LARGEST_PANEL_PX = 760.0
_CAMERA_ROWS = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)
_LONGEST_CONDITION = 110


def render_sample(sample: SampleView) -> Figure:
    """Lay out and draw a sample; the last model's detections are those shown in the cameras.

    The figure is :data:`WIDTH_PX` wide; its height follows from the images' shape and the number of panels.
    """
    tile_width = (WIDTH_PX - 2 * _MARGIN_PX - 2 * _GAP_PX) / 3
    tile_height = tile_width * _aspect(sample)
    cameras_px = 2 * tile_height + _GAP_PX if sample.cameras else 0.0
    panels = 1 + len(sample.models)
    panel_gap = 2 * _GAP_PX
    panel_px = min(_LARGEST_PANEL_PX, (WIDTH_PX - 2 * _MARGIN_PX - (panels - 1) * panel_gap) / panels)
    height_px = round(_HEADER_PX + cameras_px + _PANEL_TITLE_PX + panel_px + _LEGEND_PX + _MARGIN_PX)
    figure = Figure(figsize=(WIDTH_PX / _DPI, height_px / _DPI), dpi=_DPI, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)

    _draw_header(figure, sample, height_px)
    detections = sample.models[-1].detections if sample.models else None
    views = {view.channel: view for view in sample.cameras}
    for row, channels in enumerate(_CAMERA_ROWS if sample.cameras else ()):
        for column, channel in enumerate(channels):
            if channel in views:
                left = _MARGIN_PX + column * (tile_width + _GAP_PX)
                top = _HEADER_PX + row * (tile_height + _GAP_PX)
                axes = _axes(figure, left, top, tile_width, tile_height, height_px)
                draw_camera(axes, views[channel], sample.gt, detections)

    left = (WIDTH_PX - panels * panel_px - (panels - 1) * panel_gap) / 2
    top = _HEADER_PX + cameras_px + _PANEL_TITLE_PX
    draw_gt_panel(_axes(figure, left, top, panel_px, panel_px, height_px), sample)
    for index, model in enumerate(sample.models, start=1):
        panel_left = left + index * (panel_px + panel_gap)
        draw_model_panel(_axes(figure, panel_left, top, panel_px, panel_px, height_px), sample, model)
    _draw_legend(figure, bool(sample.models), sample.marked_title, height_px)
    return figure


def write_picture(path: Path, sample: SampleView) -> None:
    """Render a sample to a PNG file, whole or not at all; equal scenes give equal bytes.

    Raises:
        WriteError: the file cannot be written.
    """
    figure = render_sample(sample)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=BACKGROUND, metadata={"Software": None})


def _aspect(sample: SampleView) -> float:
    return max((view.image.shape[0] / view.image.shape[1] for view in sample.cameras), default=9 / 16)


def _axes(figure: Figure, left: float, top: float, width: float, height: float, total_px: int) -> Axes:
    return figure.add_axes((left / WIDTH_PX, 1 - (top + height) / total_px, width / WIDTH_PX, height / total_px))


def _draw_header(figure: Figure, sample: SampleView, height_px: int) -> None:
    left, condition = _MARGIN_PX / WIDTH_PX, sample.condition
    if len(condition) > _LONGEST_CONDITION:
        condition = condition[: _LONGEST_CONDITION - 1].rstrip(" ,") + "\u2026"
    figure.text(left, 1 - 46 / height_px, sample.scene, color=TEXT, fontsize=22, fontweight="bold", va="baseline")
    figure.text(left, 1 - 74 / height_px, condition, color=FAINT_TEXT, fontsize=13, va="baseline")
    right = 1 - left
    shown = f"in the images: {sample.models[-1].name}" if sample.models else "in the images: ground truth"
    figure.text(right, 1 - 46 / height_px, f"sample {sample.token}", color=FAINT_TEXT, fontsize=12, ha="right")
    if sample.cameras:
        figure.text(right, 1 - 74 / height_px, shown, color=FAINT_TEXT, fontsize=13, ha="right")


def _draw_legend(figure: Figure, with_models: bool, marked_title: str, height_px: int) -> None:
    classes = [
        Patch(facecolor=colour, edgecolor="none", label=name.replace("_", " "))
        for name, colour in CLASS_COLOURS.items()
    ]
    styles: list[Line2D] = []
    if with_models:
        styles = [
            Line2D([], [], color=TEXT, linewidth=2, linestyle=TRUE_POSITIVE.dashes, label="found (within 2 m)"),
            Line2D([], [], color=TEXT, linewidth=1.4, linestyle=FALSE_POSITIVE.dashes, label="false alarm"),
            Line2D(
                [], [], color=GROUND_TRUTH, linewidth=1.6, linestyle=MISSED.dashes, label="annotated (BEV: not found)"
            ),
        ]
    styles += [
        Line2D([], [], color="#a9b1bd", marker=".", markersize=3, linewidth=0, label="LiDAR"),
        Line2D([], [], color=RADAR, marker="o", markersize=4, linewidth=0, label="radar"),
        Line2D(
            [],
            [],
            color=TEXT,
            marker=r"$\rightarrow$",
            markersize=12,
            linewidth=0,
            label=f"motion in {ARROW_SECONDS:g} s",
        ),
    ]
    if marked_title:
        ring = Line2D([], [], color=MARK, marker="o", markersize=12, markerfacecolor="none", linewidth=0)
        ring.set_label(marked_title)
        styles.append(ring)
    for handles, bottom_px in ((classes, 50), (styles, 16)):
        legend = figure.legend(
            handles=handles,
            loc="lower center",
            bbox_to_anchor=(0.5, bottom_px / height_px),
            ncols=len(handles),
            frameon=False,
            fontsize=12,
            labelcolor=TEXT,
            handlelength=2.2 if handles is styles else 1.0,
            handleheight=0.9,
            columnspacing=1.8,
            borderaxespad=0,
        )
        figure.add_artist(legend)
