"""Pasting annotated objects of other samples into a sample: their LiDAR points and their boxes.

Everything here is a pure function of points and boxes in one frame; which objects are drawn is the caller's.

Source: Yan et al., "SECOND: Sparsely Embedded Convolutional Detection", section 3.3 (ground truths augmentation); order
and collision test as in the released code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from crkd_core.geometry.boxes import Boxes3D


@dataclass(frozen=True)
class LidarObjects:
    """M annotated objects with the LiDAR points inside them.

    Attributes:
        boxes: in the frame of the points.
        labels: (M,) indices into the data set's classes.
        points: of each, (P, 5): x, y, z (m), intensity, age (s).
    """

    boxes: Boxes3D
    labels: Tensor
    points: list[NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, chosen: Bool[Tensor, "m"] | Int[Tensor, "k"]) -> "LidarObjects":
        """A selection by mask or indices."""
        indices = torch.nonzero(chosen).flatten() if chosen.dtype == torch.bool else chosen
        return LidarObjects(self.boxes[indices], self.labels[indices], [self.points[i] for i in indices.tolist()])

    @staticmethod
    def cat(parts: Sequence["LidarObjects"]) -> "LidarObjects":
        """All objects of several sets, in order."""
        return LidarObjects(
            Boxes3D.cat([part.boxes for part in parts]),
            torch.cat([torch.zeros(0, dtype=torch.long), *(part.labels for part in parts)]),
            [points for part in parts for points in part.points],
        )

    def with_points(self, minimum: int) -> "LidarObjects":
        """Those that have at least so many points."""
        return self[torch.tensor([len(points) >= minimum for points in self.points], dtype=torch.bool)]


def cut_objects(points: Float[Tensor, "p 5"], boxes: Boxes3D, labels: Int[Tensor, "m"]) -> LidarObjects:
    """The objects of a sample, each with the points inside its box."""
    inside = boxes.contain(points[:, :3])
    return LidarObjects(boxes, labels, [points[mask].numpy() for mask in inside])


def missing_objects(
    labels: Int[Tensor, "m"], up_to: Mapping[str, int], class_names: Sequence[str]
) -> list[tuple[int, int]]:
    """Label and number of the objects that a sample with these labels lacks, in the order of `up_to`.

    Args:
        up_to: by class name, how many objects a sample shall have.
        class_names: in label order.
    """
    aims = [(class_names.index(name), number) for name, number in up_to.items()]
    lacking = [(label, number - int((labels == label).sum())) for label, number in aims]
    return [(label, number) for label, number in lacking if number > 0]


def draw_objects(
    labels_of_objects: NDArray[np.int64], missing: Sequence[tuple[int, int]], generator: np.random.Generator
) -> list[Tensor]:
    """For each missing class the indices of that many different objects of it; of fewer, where there are not enough."""
    return [
        torch.from_numpy(generator.permutation(np.flatnonzero(labels_of_objects == label))[:number])
        for label, number in missing
    ]


def paste_objects(
    points: NDArray[np.float32], boxes: Boxes3D, labels: Int[Tensor, "m"], draws: Sequence[LidarObjects]
) -> tuple[NDArray[np.float32], Boxes3D, Int[Tensor, "n"]]:
    """A sample with what can be placed of each draw in turn: among its boxes, what was placed before, and each other.

    Returns:
        points: those of the pasted objects first, without the sample's own inside pasted boxes.
        boxes, labels: the sample's own first.
    """
    placed = LidarObjects(boxes, labels, [])
    added = []
    for draw in draws:
        kept = draw[free_places(draw.boxes, placed.boxes)]
        added.append(kept)
        placed = LidarObjects.cat([placed, kept])
    pasted = LidarObjects.cat(added)
    covered = pasted.boxes.contain(torch.from_numpy(points[:, :3])).any(dim=0).numpy()
    return np.concatenate([*pasted.points, points[~covered]]), placed.boxes, placed.labels


def free_places(candidates: Boxes3D, taken: Boxes3D) -> Bool[Tensor, "m"]:
    """Which candidates can be placed, seen from above, without touching what is taken or one another.

    Candidates are judged in order; one that collides with another is refused, and the other is judged without it.
    """
    free = ~footprints_collide(candidates, taken).any(dim=1)
    mutual = footprints_collide(candidates, candidates).fill_diagonal_(False)
    for index in range(len(candidates)):
        free[index] &= not mutual[index].any()
        if not free[index]:
            mutual[:, index] = False
    return free


def footprints_collide(first: Boxes3D, second: Boxes3D) -> Bool[Tensor, "n m"]:
    """Which pairs of boxes have some of the ground in common; sharing a border is not enough."""
    return ~(_side_separates(first, second) | _side_separates(second, first).T)


def _side_separates(first: Boxes3D, second: Boxes3D) -> Bool[Tensor, "n m"]:
    """Whether all corners of the second footprint lie beyond one side of the first."""
    offset = second.bev_corners()[None] - first.centre[:, None, None, :2]
    cos, sin = first.yaw.cos()[:, None, None], first.yaw.sin()[:, None, None]
    along = offset[..., 0] * cos + offset[..., 1] * sin
    across = -offset[..., 0] * sin + offset[..., 1] * cos
    width, length, _ = (half[:, None] for half in (first.size_wlh / 2).unbind(-1))
    separates = torch.zeros(along.shape[:2], dtype=torch.bool)
    for corners, half in ((along, length), (across, width)):
        separates |= (corners.amin(dim=-1) >= half) | (corners.amax(dim=-1) <= -half)
    return separates
