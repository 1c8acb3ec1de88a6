"""The whole picture of a sample: cameras above, BEV panels below, one legend."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crkd_core.artifacts.atomic import atomic_path
from crkd_core.visualization.bev import draw_gt_panel, draw_model_panel
from crkd_core.visualization.cameras import draw_camera
from crkd_core.visualization.legend import Legend, legend_of
from crkd_core.visualization.palette import BACKGROUND, FAINT_TEXT, TEXT, TRUE_POSITIVE
from crkd_core.visualization.true_positives import Outcome, StyledBoxes
from crkd_core.visualization.views import SampleView

WIDTH_PX = 2000
_DPI = 100
_COLUMNS = 3
_MARGIN_PX = 28.0
_GAP_PX = 12.0
_HEADER_PX = 96.0
_PANEL_TITLE_PX = 74.0
_LEGEND_TOP_PX = 26.0
_CAMERA_ROWS = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)
_LONGEST_CONDITION = 96
_TILE_PX = (WIDTH_PX - 2 * _MARGIN_PX - (_COLUMNS - 1) * _GAP_PX) / _COLUMNS


@dataclass(frozen=True)
class _Layout:
    """Where the parts of a picture are, pixels from its upper left corner: three columns of cameras and BEV panels.

    The legend takes what the panels leave free of their last row, else the full width below them.
    """

    camera_rows: int
    camera_height_px: float
    panels: int
    legend: Legend

    @property
    def panels_top_px(self) -> float:
        return _HEADER_PX + self.camera_rows * (self.camera_height_px + _GAP_PX)

    @property
    def panel_rows(self) -> int:
        return -(-self.panels // _COLUMNS)

    @property
    def legend_box_px(self) -> tuple[float, float, float, float]:
        """Left, top, width and height."""
        used = self.panels % _COLUMNS
        bottom = self.panels_top_px + self.panel_rows * (_PANEL_TITLE_PX + _TILE_PX)
        if used == 0:
            width = WIDTH_PX - 2 * _MARGIN_PX
            return _MARGIN_PX, bottom + _LEGEND_TOP_PX, width, self.legend.height_px(width)
        left = _left_px(used) + _LEGEND_TOP_PX
        width = WIDTH_PX - _MARGIN_PX - left
        return left, bottom - _TILE_PX, width, max(_TILE_PX, self.legend.height_px(width))

    @property
    def height_px(self) -> int:
        _, top, _, height = self.legend_box_px
        return round(top + height + _MARGIN_PX)


def render_sample(sample: SampleView) -> Figure:
    """Lay out and draw a sample; the last model's detections are those shown in the cameras.

    The figure is :data:`WIDTH_PX` wide; its height follows from the images' shape and the number of panels.
    """
    channels = {view.channel for view in sample.cameras}
    rows = [row for row in _CAMERA_ROWS if channels & set(row)]
    layout = _Layout(len(rows), _TILE_PX * _aspect(sample), 1 + len(sample.models), legend_of(sample))
    figure = Figure(figsize=(WIDTH_PX / _DPI, layout.height_px / _DPI), dpi=_DPI, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)

    def axes(left: float, top: float, width: float, height: float) -> Axes:
        total = layout.height_px
        return figure.add_axes((left / WIDTH_PX, 1 - (top + height) / total, width / WIDTH_PX, height / total))

    _draw_header(figure, sample, layout.height_px)
    if sample.models:
        layers: tuple[StyledBoxes, ...] = Outcome.of(sample.models[-1].detections, sample.gt).layers
    else:
        layers = (StyledBoxes(sample.gt, TRUE_POSITIVE),) if sample.gt is not None else ()
    views = {view.channel: view for view in sample.cameras}
    for number, row in enumerate(rows):
        top = _HEADER_PX + number * (layout.camera_height_px + _GAP_PX)
        for column, channel in enumerate(row):
            if channel in views:
                tile = axes(_left_px(column), top, _TILE_PX, layout.camera_height_px)
                draw_camera(tile, views[channel], layers, _TILE_PX / views[channel].image.shape[1])

    for index in range(layout.panels):
        row_index, column = divmod(index, _COLUMNS)
        top = layout.panels_top_px + row_index * (_PANEL_TITLE_PX + _TILE_PX) + _PANEL_TITLE_PX
        panel = axes(_left_px(column), top, _TILE_PX, _TILE_PX)
        if index == 0:
            draw_gt_panel(panel, sample)
        else:
            draw_model_panel(panel, sample, sample.models[index - 1])
    left, top, width, height = layout.legend_box_px
    layout.legend.draw(axes(left, top, width, height), width, height)
    return figure


def write_picture(path: Path, sample: SampleView) -> None:
    """Render a sample to a PNG file, whole or not at all; equal scenes give equal bytes.

    Raises:
        WriteError: the file cannot be written.
    """
    figure = render_sample(sample)
    with atomic_path(path) as temporary:
        figure.savefig(
            temporary, format="png", facecolor=BACKGROUND, metadata={"Software": None},
            # Half the time of the usual level 6, for 5% more bytes.
            pil_kwargs={"compress_level": 4},
        )  # fmt: skip


def _aspect(sample: SampleView) -> float:
    return max((view.image.shape[0] / view.image.shape[1] for view in sample.cameras), default=9 / 16)


def _left_px(column: int) -> float:
    return _MARGIN_PX + column * (_TILE_PX + _GAP_PX)


def _draw_header(figure: Figure, sample: SampleView, height_px: int) -> None:
    left, condition = _MARGIN_PX / WIDTH_PX, sample.condition
    if len(condition) > _LONGEST_CONDITION:
        condition = condition[: _LONGEST_CONDITION - 1].rstrip(" ,") + "\u2026"
    figure.text(left, 1 - 46 / height_px, sample.scene, color=TEXT, fontsize=24, fontweight="bold", va="baseline")
    figure.text(left, 1 - 76 / height_px, condition, color=FAINT_TEXT, fontsize=14, va="baseline")
    right = 1 - left
    figure.text(right, 1 - 46 / height_px, f"sample {sample.token}", color=FAINT_TEXT, fontsize=13, ha="right")
    if sample.cameras:
        shown = f"in the images: {sample.models[-1].name if sample.models else 'ground truth'}"
        if sample.models and sample.score > 0:
            shown += f"; detections from score {sample.score:g} on"
        figure.text(right, 1 - 76 / height_px, shown, color=TEXT, fontsize=14, ha="right")
