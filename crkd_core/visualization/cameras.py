"""3D boxes drawn into camera images."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from numpy.typing import NDArray

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.transforms import inverse_rigid, transform_points
from crkd_core.visualization.palette import BACKGROUND, GROUND_TRUTH, TEXT, class_colour, score_alpha
from crkd_core.visualization.views import CameraView, LabelledBoxes

NEAR_PLANE_M = 0.3
"""Depth at which edges are cut, so that a box beside the camera does not wrap around."""

_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
_FRONT_FACE = (0, 3, 7, 4)
_OUTLINE_POINTS = 1.5


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


def draw_camera(axes: Axes, view: CameraView, gt: LabelledBoxes, detections: LabelledBoxes | None) -> None:
    """One image with its boxes: detections solid in class colours over dotted white ground truth.

    Without `detections` (None), ground truth itself is drawn solid in class colours. The filled face is the front.
    """
    height, width = view.image.shape[:2]
    axes.imshow(view.image, interpolation="bilinear", extent=(0, width, height, 0))
    if detections is None:
        _draw_boxes(axes, view, gt)
    else:
        for box in project_boxes(gt.boxes, view):
            lines = LineCollection(list(box.edges), colors=[to_rgba(GROUND_TRUTH, 0.8)], linewidths=0.8)
            lines.set_linestyle([(0, (1, 1.2))])
            axes.add_collection(lines, autolim=False)
        _draw_boxes(axes, view, detections)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    axes.text(
        0.012,
        0.965,
        view.channel.removeprefix("CAM_").replace("_", " ").lower(),
        transform=axes.transAxes,
        color=TEXT,
        fontsize=10,
        va="top",
        bbox={"boxstyle": "round,pad=0.3", "facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.72},
    )


def _draw_boxes(axes: Axes, view: CameraView, shown: LabelledBoxes) -> None:
    for box in project_boxes(shown.boxes, view):
        colour = class_colour(int(shown.labels[box.index]))
        alpha = 1.0 if shown.scores is None else score_alpha(float(shown.scores[box.index]))
        # Lines of far boxes are thinner, or a distant row of cars becomes one blot.
        width = _OUTLINE_POINTS * float(np.clip(20.0 / max(box.depth_m, 1.0), 0.55, 1.3))
        if len(box.front) >= 3:
            front = PolyCollection([box.front], facecolors=[to_rgba(colour, 0.28 * alpha)], edgecolors="none")
            axes.add_collection(front, autolim=False)
        segments = list(box.edges) + ([box.heading] if box.heading is not None else [])
        lines = LineCollection(segments, colors=[to_rgba(colour, alpha)], linewidths=width, capstyle="round")
        axes.add_collection(lines, autolim=False)


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
