"""Bird's-eye-view panels: sensors and ground truth, and what a model made of them."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Circle, Polygon
from numpy.typing import NDArray

from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.progress import format_count
from crkd_core.visualization.palette import (
    EGO,
    FAINT_TEXT,
    MARK,
    PANEL,
    RADAR,
    RULES,
    TEXT,
    TRUE_POSITIVE,
    class_style,
    score_alpha,
)
from crkd_core.visualization.true_positives import Outcome, StyledBoxes
from crkd_core.visualization.views import LabelledBoxes, ModelView, SampleView

ARROW_SECONDS = 0.5
RING_STEP_M = 20.0
RADAR_MARKER = "x"
MOVING_MPS = 0.5
_LIDAR_HEIGHTS_M = (-2.0, 2.5)
EGO_OUTLINE_M = ((-0.95, -3.0), (0.95, -3.0), (0.95, 0.4), (0.0, 1.4), (-0.95, 0.4))
_STATIC_LABELS = [DETECTION_CLASSES.index(name) for name in ("barrier", "traffic_cone")]
_SENSOR_NAMES = {"camera": "camera", "lidar": "LiDAR", "radar": "radar"}
GLYPH_AREA = 22.0
LETTER_AREA = 34.0


def draw_gt_panel(axes: Axes, sample: SampleView) -> None:
    """LiDAR and radar points with the annotated objects in class colours, and their velocities."""
    _prepare(axes, sample.extent_m)
    _draw_lidar(axes, sample.lidar, strength=1.0)
    _draw_radar(axes, sample.radar)
    points = " + ".join(name for name, values in (("LiDAR", sample.lidar), ("radar", sample.radar)) if len(values))
    if sample.gt is None:
        _draw_title(axes, "sensors", "the annotations are not public", points)
        return
    _draw_boxes(axes, StyledBoxes(sample.gt, TRUE_POSITIVE))
    _draw_marks(axes, sample.marked)
    _draw_title(axes, "ground truth", format_count(len(sample.gt), "object"), points)


def draw_model_panel(axes: Axes, sample: SampleView, model: ModelView) -> None:
    """A model's detections over the points of the sensors it sees.

    True positives are solid and filled, false positives dashed, missed objects dotted in white; fainter means a lower
    score. The matching is the benchmark's, at 2 m. Where nothing is annotated, all detections are drawn alike.
    """
    _prepare(axes, sample.extent_m)
    if "lidar" in model.modalities:
        _draw_lidar(axes, sample.lidar, strength=0.7)
    if "radar" in model.modalities:
        _draw_radar(axes, sample.radar)
    outcome = Outcome.of(model.detections, sample.gt)
    for layer in outcome.layers:
        _draw_boxes(axes, layer)
    _draw_marks(axes, sample.marked)
    _draw_title(axes, model.name, outcome.summary, " + ".join(sensor_name(name) for name in model.modalities))


def sensor_name(modality: str) -> str:
    """As texts write it."""
    return _SENSOR_NAMES.get(modality, modality)


def has_arrow(shown: LabelledBoxes) -> NDArray[np.bool_]:
    """(M,) which boxes move, so that an arrow shows where to."""
    velocity = shown.boxes.velocity.detach().cpu().double().numpy()
    # NaN compares as not moving: an unknown velocity has no arrow.
    return ~np.isin(shown.labels, _STATIC_LABELS) & (np.hypot(velocity[:, 0], velocity[:, 1]) > MOVING_MPS)


def _prepare(axes: Axes, extent_m: float) -> None:
    axes.set_facecolor(PANEL)
    axes.set_xlim(-extent_m, extent_m)
    axes.set_ylim(-extent_m, extent_m)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_edgecolor(RULES)
    for radius in np.arange(RING_STEP_M, extent_m * 1.45, RING_STEP_M):
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=RULES, linewidth=0.7, zorder=1))
        # On the diagonal, where the traffic of a straight road does not hide it.
        diagonal = radius * np.sqrt(0.5)
        if diagonal < 0.97 * extent_m:
            axes.text(
                diagonal, -diagonal, f"{radius:.0f} m", color=FAINT_TEXT, fontsize=9, ha="center", va="center",
                zorder=2, bbox={"boxstyle": "square,pad=0.15", "facecolor": PANEL, "edgecolor": "none"},
            )  # fmt: skip
    axes.add_patch(Polygon(EGO_OUTLINE_M, closed=True, facecolor=EGO, edgecolor="none", zorder=6))


def _draw_title(axes: Axes, name: str, facts: str, sensors: str = "") -> None:
    lines: tuple[tuple[float, int, str, dict[str, Any]], ...] = (
        (0.0, 36, name, {"color": TEXT, "fontsize": 17, "fontweight": "bold"}),
        (0.0, 11, facts, {"color": FAINT_TEXT, "fontsize": 13}),
        (1.0, 11, sensors, {"color": FAINT_TEXT, "fontsize": 13, "ha": "right"}),
    )
    for x, height_px, text, style in lines:
        # Heights in points, so that the title sits equally above panels of every size.
        axes.annotate(
            text, (x, 1.0), (0, height_px * 0.72), xycoords="axes fraction", textcoords="offset points",
            va="baseline", annotation_clip=False, **style,
        )  # fmt: skip


def _draw_lidar(axes: Axes, points: NDArray[np.float32], strength: float) -> None:
    if len(points) == 0:
        return
    low, high = _LIDAR_HEIGHTS_M
    brightness = 0.32 + 0.45 * np.clip((points[:, 2] - low) / (high - low), 0, 1)
    colours = np.stack([brightness * 0.93, brightness * 0.98, brightness, np.full_like(brightness, strength)], axis=-1)
    axes.scatter(points[:, 0], points[:, 1], s=0.8, c=np.clip(colours, 0, 1), linewidths=0, zorder=2)


def _draw_radar(axes: Axes, points: NDArray[np.float32]) -> None:
    if len(points) == 0:
        return
    axes.scatter(points[:, 0], points[:, 1], s=12, c=RADAR, marker=RADAR_MARKER, alpha=0.6, linewidths=0.8, zorder=3)
    moving = points[np.hypot(points[:, 2], points[:, 3]) > MOVING_MPS]
    if len(moving):
        axes.quiver(
            moving[:, 0], moving[:, 1], moving[:, 2] * ARROW_SECONDS, moving[:, 3] * ARROW_SECONDS,
            angles="xy", scale_units="xy", scale=1, color=RADAR, alpha=0.55, width=0.0022, headwidth=4.5, headlength=5,
            headaxislength=4.5, zorder=3,
        )  # fmt: skip


def _draw_boxes(axes: Axes, layer: StyledBoxes) -> None:
    shown, style = layer.shown, layer.style
    if len(shown) == 0:
        return
    alphas = [1.0] * len(shown) if shown.scores is None else [score_alpha(float(score)) for score in shown.scores]
    colours = [to_rgba(style.colour_of(int(label)), alpha) for label, alpha in zip(shown.labels, alphas, strict=True)]
    footprints = _footprints(shown.boxes)
    if style.fill_alpha:
        fills = [(*colour[:3], colour[3] * style.fill_alpha) for colour in colours]
        axes.add_collection(PolyCollection(footprints, facecolors=fills, edgecolors="none", zorder=4), autolim=False)
    outlines = PolyCollection(footprints, facecolors="none", edgecolors=colours, linewidths=style.width, zorder=5)
    outlines.set_linestyle([style.dashes])
    axes.add_collection(outlines, autolim=False)
    marks = LineCollection(_heading_marks(shown.boxes), colors=colours, linewidths=style.width, zorder=5)
    axes.add_collection(marks, autolim=False)
    _draw_glyphs(axes, layer, colours)
    if style.colour is None:
        _draw_velocities(axes, shown, colours)


def _draw_glyphs(axes: Axes, layer: StyledBoxes, colours: list) -> None:
    """Of one size on the screen: a pedestrian's box has three pixels. Letters stand behind the heading's line."""
    lines = np.stack(_heading_marks(layer.shown.boxes))
    centres, noses = lines[:, 0], lines[:, 1]
    for label in np.unique(layer.shown.labels).tolist():
        glyph = class_style(label).glyph
        if glyph is None:
            continue
        rows = np.flatnonzero(layer.shown.labels == label)
        edges = [colours[row] for row in rows]
        is_letter = glyph.startswith("$")
        at = centres[rows] - 0.5 * (noses[rows] - centres[rows]) if is_letter else centres[rows]
        axes.scatter(
            at[:, 0], at[:, 1], marker=glyph, s=LETTER_AREA if is_letter else GLYPH_AREA,
            facecolors=edges if layer.style.fill_alpha or is_letter else PANEL, edgecolors=edges,
            linewidths=0.3 if is_letter else 1.1, zorder=5.5,
        )  # fmt: skip


def _draw_marks(axes: Axes, positions: NDArray[np.float32]) -> None:
    """Rings of one size on the screen, whatever the extent."""
    axes.scatter(positions[:, 0], positions[:, 1], s=260, facecolors="none", edgecolors=MARK, linewidths=1.8, zorder=7)


def _draw_velocities(axes: Axes, shown: LabelledBoxes, colours: list) -> None:
    velocity = shown.boxes.velocity.detach().cpu().double().numpy()
    moving = np.flatnonzero(has_arrow(shown))
    if len(moving) == 0:
        return
    start = shown.boxes.centre[:, :2].detach().cpu().double().numpy()[moving]
    step = velocity[moving] * ARROW_SECONDS
    axes.quiver(
        start[:, 0], start[:, 1], step[:, 0], step[:, 1], angles="xy", scale_units="xy", scale=1,
        color=[colours[i] for i in moving], width=0.004, headwidth=3.6, headlength=4, headaxislength=3.6, zorder=5,
    )  # fmt: skip


def _footprints(boxes: Boxes3D) -> list[NDArray]:
    return list(boxes.bev_corners().detach().cpu().double().numpy())


def _heading_marks(boxes: Boxes3D) -> list[NDArray]:
    centres = boxes.centre[:, :2].detach().cpu().double().numpy()
    corners = boxes.bev_corners().detach().cpu().double().numpy()
    noses = corners[:, [0, 3]].mean(axis=1)
    return list(np.stack([centres, noses], axis=1))
