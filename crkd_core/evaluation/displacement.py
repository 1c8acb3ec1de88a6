"""Whether all detections lie beside the objects by one and the same vector."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from crkd_core.evaluation.nuscenes.columns import BoxColumns
from crkd_core.evaluation.nuscenes.joining import equal_pairs

_MOST_DETECTIONS = 5000
_CELL_M = 0.5
_TOLERANCE_M = 0.75


@dataclass(frozen=True)
class Displacement:
    """The vector from an object to a detection of its class that most detections share.

    Attributes:
        x_m, y_m: the vector.
        share: of the detections that have an object there, within 0.75 m; `share_unmoved`: right where they are.
    """

    x_m: float
    y_m: float
    share: float
    share_unmoved: float

    @property
    def length_m(self) -> float:
        return float(np.hypot(self.x_m, self.y_m))


@dataclass(frozen=True)
class Displacements:
    """Of `detections` detections; `accompanied`: share with an object of any class within reach."""

    detections: int
    accompanied: float
    in_global: Displacement
    in_lidar: Displacement


def find_displacement(
    detected: BoxColumns, gt: BoxColumns, lidar_from_global: Float64[np.ndarray, "s 2 2"], reach_m: float
) -> Displacements | None:
    """Look for a shared displacement of up to `reach_m` among the best detections of the samples with objects.

    Args:
        lidar_from_global: rotation of horizontal vectors to each sample's LiDAR frame.

    Returns:
        None where no detection has an object of its class within reach, or there are no detections.
    """
    chosen = _best(detected, gt)
    kept, has_neighbour = detected[chosen], np.zeros(len(chosen), dtype=bool)
    offsets, owners = [np.zeros((0, 2))], [np.zeros(0, dtype=np.int64)]
    for row, gt_row in equal_pairs(kept.sample, gt.sample):
        offset = kept.translation[row, :2] - gt.translation[gt_row, :2]
        near = (np.abs(offset) < reach_m).all(axis=1)
        has_neighbour[row[near]] = True
        near &= kept.label[row] == gt.label[gt_row]
        offsets.append(offset[near])
        owners.append(row[near])
    vectors, owner = np.concatenate(offsets), np.concatenate(owners)
    if not len(kept):
        return None
    turned = np.einsum("nij,nj->ni", lidar_from_global[kept.sample[owner]], vectors)
    return Displacements(
        detections=len(kept),
        accompanied=float(has_neighbour.mean()),
        in_global=_most_common(vectors, owner, len(kept), reach_m),
        in_lidar=_most_common(turned, owner, len(kept), reach_m),
    )


def _best(detected: BoxColumns, gt: BoxColumns) -> NDArray[np.int64]:
    """As many of the detections as there are objects, the highest scores first."""
    usable = np.flatnonzero(np.isin(detected.sample, gt.sample))
    order = usable[np.argsort(-detected.score[usable], kind="stable")]
    return order[: min(len(gt), _MOST_DETECTIONS)]


def _most_common(
    vectors: NDArray[np.float64], owner: NDArray[np.int64], detections: int, reach_m: float
) -> Displacement:
    if not len(vectors):
        return Displacement(0.0, 0.0, 0.0, 0.0)
    cells = np.clip(np.floor((vectors + 2 * reach_m) / _CELL_M).astype(np.int64), 0, None)
    width = int(cells.max()) + 2
    votes = np.bincount(cells[:, 0] * width + cells[:, 1], minlength=width * width).reshape(width, width)
    # A peak may lie on the border of cells: four neighbours vote together.
    four = votes[:-1, :-1] + votes[1:, :-1] + votes[:-1, 1:] + votes[1:, 1:]
    peak = (np.array(np.unravel_index(four.argmax(), four.shape)) + 1) * _CELL_M - 2 * reach_m
    around = np.hypot(*(vectors - peak).T) < _TOLERANCE_M
    centre = np.median(vectors[around], axis=0) if around.any() else peak
    return Displacement(
        float(centre[0]),
        float(centre[1]),
        _share(vectors - centre, owner, detections),
        _share(vectors, owner, detections),
    )


def _share(vectors: NDArray[np.float64], owner: NDArray[np.int64], detections: int) -> float:
    near = np.hypot(*vectors.T) < _TOLERANCE_M
    return len(np.unique(owner[near])) / detections
