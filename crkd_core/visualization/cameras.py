"""3D boxes drawn into camera images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from numpy.typing import NDArray

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.transforms import inverse_rigid, transform_points
from crkd_core.visualization.palette import BACKGROUND, CASING, TEXT, class_style, score_alpha
from crkd_core.visualization.tags import Tag, draw_tags
from crkd_core.visualization.true_positives import StyledBoxes
from crkd_core.visualization.views import CameraView

NEAR_PLANE_M = 0.3
"""Depth at which edges are cut, so that a box beside the camera does not wrap around."""

_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
_FRONT_FACE = (0, 3, 7, 4)


@dataclass(frozen=True)
class ProjectedBox:
    """One box in an image.

    Attributes:
        index: which box it was.
        depth_m: depth of its centre; negative where only a part of the box is before the camera.
        edges: (E, 2, 2) visible pieces of its edges, pixels.
        front: (F, 2) outline of its front face, pixels; fewer than 3 points where it is not before the camera.
        heading: (2, 2) line from the floor's centre to the middle of its front edge, pixels; None behind the camera.
    """

    index: int
    depth_m: float
    edges: NDArray[np.float64]
    front: NDArray[np.float64]
    heading: NDArray[np.float64] | None


def project_boxes(boxes: Boxes3D, view: CameraView, near_m: float = NEAR_PLANE_M) -> list[ProjectedBox]:
    """The boxes that reach into the image, farthest first."""
    corners = boxes.corners().detach().cpu().double().numpy()
    camera_from_lidar = inverse_rigid(view.lidar_from_camera)
    in_camera = transform_points(camera_from_lidar, corners.reshape(-1, 3)).reshape(-1, 8, 3)
    height, width = view.image.shape[:2]
    projected = []
    for index, box in enumerate(in_camera):
        pieces = [_clip_to_near_plane(box[list(edge)], near_m) for edge in _EDGES]
        edges = [_to_pixels(piece, view.intrinsics) for piece in pieces if len(piece) == 2]
        if not edges or not _reaches_into(np.concatenate(edges), width, height):
            continue
        heading = _clip_to_near_plane(np.stack([box[:4].mean(axis=0), box[[0, 3]].mean(axis=0)]), near_m)
        projected.append(
            ProjectedBox(
                index=index,
                depth_m=float(box[:, 2].mean()),
                edges=np.stack(edges),
                front=_to_pixels(_clip_polygon(box[list(_FRONT_FACE)], near_m), view.intrinsics),
                heading=_to_pixels(heading, view.intrinsics) if len(heading) == 2 else None,
            )
        )
    return sorted(projected, key=lambda item: -item.depth_m)


def draw_camera(axes: Axes, view: CameraView, layers: Sequence[StyledBoxes], px_per_pixel: float = 1.0) -> None:
    """One image with layers of boxes, the lowest first; the filled face is the front.

    Args:
        px_per_pixel: size of an image's pixel in the picture, by which tags are given to what is large enough.
    """
    height, width = view.image.shape[:2]
    axes.imshow(view.image, interpolation="bilinear", extent=(0, width, height, 0))
    tags = [tag for layer in layers for tag in _draw_layer(axes, view, layer)]
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    name = view.channel.removeprefix("CAM_").replace("_", " ").lower()
    axes.text(
        0.012, 0.965, name, transform=axes.transAxes, color=TEXT, fontsize=12, va="top",
        bbox={"boxstyle": "round,pad=0.3", "facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.78},
    )  # fmt: skip
    draw_tags(axes, tags, (width, height), px_per_pixel, reserved=name)


def _draw_layer(axes: Axes, view: CameraView, layer: StyledBoxes) -> list[Tag]:
    shown, style = layer.shown, layer.style
    tags = []
    for box in project_boxes(shown.boxes, view):
        label, score = int(shown.labels[box.index]), None if shown.scores is None else float(shown.scores[box.index])
        colour = style.colour_of(label)
        alpha = 1.0 if score is None else score_alpha(score)
        # Lines of far boxes are thinner, or a distant row of cars becomes one blot.
        width = style.width * float(np.clip(20.0 / max(box.depth_m, 1.0), 0.6, 1.3))
        if len(box.front) >= 3 and style.fill_alpha:
            front = PolyCollection(
                [box.front], facecolors=[to_rgba(colour, style.fill_alpha * alpha)], edgecolors="none"
            )
            axes.add_collection(front, autolim=False)
        segments = list(box.edges) + ([box.heading] if box.heading is not None else [])
        casing = LineCollection(segments, colors=[to_rgba(CASING, 0.55)], linewidths=width + 1.3, capstyle="round")
        axes.add_collection(casing, autolim=False)
        lines = LineCollection(segments, colors=[to_rgba(colour, alpha)], linewidths=width)
        lines.set_linestyle([style.dashes])
        axes.add_collection(lines, autolim=False)
        name = class_style(label).tag
        tags.append(
            Tag(name if score is None else f"{name} {score:.2f}", box.edges.reshape(-1, 2), box.depth_m, colour)
        )
    return tags


def _clip_to_near_plane(segment: NDArray[np.float64], near_m: float) -> NDArray[np.float64]:
    first, second = segment
    if first[2] < near_m and second[2] < near_m:
        return np.zeros((0, 3))
    if first[2] >= near_m and second[2] >= near_m:
        return segment
    cut = first + (second - first) * (near_m - first[2]) / (second[2] - first[2])
    return np.stack([cut, second] if first[2] < near_m else [first, cut])


def _clip_polygon(corners: NDArray[np.float64], near_m: float) -> NDArray[np.float64]:
    kept: list[NDArray[np.float64]] = []
    for first, second in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if first[2] >= near_m:
            kept.append(first)
        if (first[2] >= near_m) != (second[2] >= near_m):
            kept.append(first + (second - first) * (near_m - first[2]) / (second[2] - first[2]))
    return np.stack(kept) if kept else np.zeros((0, 3))


def _to_pixels(points: NDArray[np.float64], intrinsics: NDArray[np.float64]) -> NDArray[np.float64]:
    homogeneous = points @ np.asarray(intrinsics, dtype=np.float64).T
    return homogeneous[:, :2] / homogeneous[:, 2:3]


def _reaches_into(pixels: NDArray[np.float64], width: int, height: int) -> bool:
    lower, upper = pixels.min(axis=0), pixels.max(axis=0)
    return bool(lower[0] < width and upper[0] > 0 and lower[1] < height and upper[1] > 0)
