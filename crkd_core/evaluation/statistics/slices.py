"""Parts of a split: objects by range, speed, visibility, points on them, by day, night and rain, and by scene tags.

An annotated object belongs to a slice by what it is. A detection belongs where the object it was matched with does, and
is neither right nor wrong in the other slices of that kind (as with COCO's area ranges). A detection that was matched
with nothing has no object to go by:

- by range, condition and tag it goes by itself (its own distance from the car, the scene it was made in), and counts
  as a false positive in that slice alone;
- speed, visibility and points are known of annotated objects only, so it counts as a false positive in every slice of
  these kinds. Their average precision is therefore lower than that of the whole split: it compares models on a slice,
  and not a slice with the whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int32
from numpy.typing import NDArray

from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.truckscenes.tags import scene_tags
from crkd_core.evaluation.nuscenes.scoring import Scoring

ALL = "all"
KINDS: dict[str, str] = {
    ALL: "everything",
    "range": "distance from the car (m)",
    "speed": "speed of the object (m/s)",
    "visibility": "part of the object that the cameras see (%)",
    "radar-points": "radar points on the object",
    "lidar-points": "LiDAR points on the object",
    "condition": "light and weather of the scene",
    "tag": "tags of the scene",
}
"""Kinds of slices, and what they go by. Every kind is broken down by class too."""

RANGES_M = (0.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0)
"""Ends of the slices by range, of which the last is where no class is evaluated any more."""
SPEEDS_MPS = (0.0, 0.5, 3.0, 10.0, np.inf)
RADAR_POINTS = (0.0, 1.0, 5.0, np.inf)
LIDAR_POINTS = (0.0, 1.0, 6.0, 21.0, 101.0, np.inf)
VISIBILITIES = {1: "0-40", 2: "40-60", 3: "60-80", 4: "80-100"}


@dataclass(frozen=True)
class Slice:
    """One part of a split.

    Attributes:
        kind, name: such as ``range`` and ``20-30``.
        gt: (T,) objects that belong to it.
        fp: (P,) detections that count as false positives in it where they are matched with nothing.
    """

    kind: str
    name: str
    gt: Bool[np.ndarray, " t"]
    fp: Bool[np.ndarray, " p"]


@dataclass(frozen=True)
class SplitScenes:
    """The scenes of the evaluated samples.

    Attributes:
        names: by scene index.
        of_sample: (S,) scene index of every sample.
        night, rain: by scene index, read from the scenes' descriptions.
        tags: of every scene, where descriptions consist of them.
    """

    names: tuple[str, ...]
    of_sample: Int32[np.ndarray, " s"]
    night: Bool[np.ndarray, " c"]
    rain: Bool[np.ndarray, " c"]
    tags: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @staticmethod
    def one(samples: int) -> "SplitScenes":
        """All samples as if they were of one scene."""
        nowhere = np.zeros(1, dtype=bool)
        return SplitScenes((ALL,), np.zeros(samples, dtype=np.int32), nowhere, nowhere)


def read_scenes(prepared: PreparedData, tokens: Sequence[str]) -> SplitScenes:
    """The scenes of the samples `tokens`, in the order in which they come."""
    scenes = [prepared.scene_of(token) for token in tokens]
    by_name = {scene.name: scene for scene in scenes}
    index = {name: number for number, name in enumerate(by_name)}
    return SplitScenes(
        names=tuple(by_name),
        of_sample=np.array([index[scene.name] for scene in scenes], dtype=np.int32),
        night=np.array([scene.night for scene in by_name.values()], dtype=bool),
        rain=np.array([scene.rain for scene in by_name.values()], dtype=bool),
        tags=tuple(scene_tags(scene.description) for scene in by_name.values()),
    )


def find_slices(scoring: Scoring, scenes: SplitScenes) -> list[Slice]:
    """All slices of all kinds, empty ones too, in the order of :data:`KINDS`; the first is everything.

    Objects whose speed, visibility or number of points is unknown are in no slice of that kind.
    """
    gt, detections = scoring.gt, scoring.detections
    everywhere = np.ones(len(detections), dtype=bool)
    slices = [Slice(ALL, ALL, np.ones(len(gt), dtype=bool), everywhere)]
    for name, low, high in _intervals(_ranges(scoring.samples.description.farthest_m)):
        inside = [_between(boxes.ego_distance, low, high) for boxes in (gt, detections)]
        slices.append(Slice("range", name, *inside))
    for kind, values, bounds in (
        ("speed", gt.speed_mps, SPEEDS_MPS),
        ("radar-points", gt.radar_points, RADAR_POINTS),
        ("lidar-points", gt.lidar_points, LIDAR_POINTS),
    ):
        for name, low, high in _intervals(bounds, whole=kind != "speed"):
            slices.append(Slice(kind, name, _between(values, low, high), everywhere))
    for level, name in VISIBILITIES.items():
        slices.append(Slice("visibility", name, gt.visibility == level, everywhere))
    conditions = {"day": ~scenes.night, "night": scenes.night, "dry": ~scenes.rain, "rain": scenes.rain}
    tags = {tag: np.array([tag in own for own in scenes.tags], dtype=bool) for tag in sorted({*chain(*scenes.tags)})}
    for kind, of_scenes in (("condition", conditions), ("tag", tags)):
        for name, is_in in of_scenes.items():
            inside = [is_in[scenes.of_sample[boxes.sample]] for boxes in (gt, detections)]
            slices.append(Slice(kind, name, *inside))
    order = list(KINDS)
    return sorted(slices, key=lambda part: order.index(part.kind))


def _ranges(farthest_m: float) -> tuple[float, ...]:
    return (*(end for end in RANGES_M if end < farthest_m), farthest_m)


def _intervals(bounds: Sequence[float], whole: bool = False) -> Iterator[tuple[str, float, float]]:
    """Names and half-open intervals; of whole numbers, the name shows the last one inside."""
    for low, high in pairwise(bounds):
        last = high - 1 if whole else high
        if high == np.inf:
            name = f"{low:g}+"
        else:
            name = f"{low:g}" if last == low else f"{low:g}-{last:g}"
        yield name, low, high


def _between(values: Float64[np.ndarray, " n"] | Int32[np.ndarray, " n"], low: float, high: float) -> NDArray[np.bool_]:
    # An unknown value is NaN, and nowhere.
    return (values >= low) & (values < high)
