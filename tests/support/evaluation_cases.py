"""Random detections and annotations with what is odd about real ones, and the devkit's own numbers for them."""

import math
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

import numpy as np

from crkd_core.config.description import DatasetDescription
from crkd_core.evaluation.nuscenes.accumulate import accumulate as accumulate_columns
from crkd_core.evaluation.nuscenes.accumulate import summarise
from crkd_core.evaluation.nuscenes.columns import BoxColumns, GtColumns, SplitSamples
from crkd_core.evaluation.nuscenes.match import match
from crkd_core.evaluation.nuscenes.metrics import DEVKIT_ERRORS, Metrics
from crkd_core.evaluation.nuscenes.official import convert_summary
from crkd_core.evaluation.nuscenes.scoring import Scoring
from crkd_core.evaluation.statistics.slices import ALL, Slice, SplitScenes
from tests.support.described import NUSCENES, TWELVE

_PACKAGES = {NUSCENES.name: "nuscenes", TWELVE.name: "truckscenes"}


@dataclass(frozen=True)
class Case:
    """Knobs of a random case; `step_m` and `score_step` above 0 make equal distances and scores frequent.

    The devkit refuses some cases with a `lowest_score` below 0 or with `flat` (the share of boxes without height).
    """

    seed: int
    samples: int = 3
    gt: int = 20
    detections: int = 40
    labels: tuple[int, ...] | None = None
    spread_m: float = 10.0
    step_m: float = 0.0
    score_step: float = 0.0
    nan_velocity: float = 0.2
    no_attribute: float = 0.2
    near: float = 0.7
    lowest_score: float = 0.0
    flat: float = 0.0
    description: DatasetDescription = NUSCENES

    def build(self) -> tuple[BoxColumns, GtColumns]:
        """Detections and annotations; `near` is the share of detections that lie near an annotation."""
        rng = np.random.default_rng(self.seed)
        gt = self._boxes(rng, self.gt)
        detections = self._boxes(rng, self.detections)
        if self.gt:
            source = rng.integers(0, self.gt, self.detections)
            copied = rng.random(self.detections) < self.near
            for name in ("sample", "label", "translation", "size_wlh", "rotation", "velocity", "attribute"):
                values = getattr(detections, name)
                values[copied] = getattr(gt, name)[source[copied]]
            noise = rng.normal(size=(self.detections, 3)) * rng.choice([0.0, 0.3, 1.5], size=(self.detections, 1))
            detections.translation[:] = self._snap(detections.translation + noise)
            detections.velocity[:] += noise[:, :2]
            detections.rotation[:] += (
                0.1 * rng.normal(size=(self.detections, 4)) * (noise != 0).any(axis=1, keepdims=True)
            )
            renamed = rng.random(self.detections) < 0.2
            detections.attribute[renamed] = rng.integers(-1, len(self.description.attributes), renamed.sum())
            detections.size_wlh[:] *= rng.choice([1.0, 1.2, 0.7], size=(self.detections, 1))
        detections.score[:] = rng.uniform(self.lowest_score, 1, self.detections)
        detections.size_wlh[rng.random(self.detections) < self.flat, 2] = 0.0
        if self.score_step:
            detections.score[:] = np.round(detections.score / self.score_step) * self.score_step
        detections, gt = (boxes[np.argsort(boxes.sample, kind="stable")] for boxes in (detections, gt))
        return detections, as_gt(gt)

    def _snap(self, values: np.ndarray) -> np.ndarray:
        return np.round(values / self.step_m) * self.step_m if self.step_m else values

    def _boxes(self, rng: np.random.Generator, count: int) -> BoxColumns:
        rotation = rng.normal(size=(count, 4)) * rng.choice([[1, 0, 0, 1], [1, 1, 1, 1]], size=count, p=[0.8, 0.2])
        flat = rng.random(count) < 0.1
        rotation[flat] = rng.choice([[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 0]], size=flat.sum())
        velocity = rng.normal(size=(count, 2)) * 4
        velocity[rng.random(count) < self.nan_velocity] = math.nan
        attribute = rng.integers(0, len(self.description.attributes), count)
        attribute[rng.random(count) < self.no_attribute] = -1
        return BoxColumns(
            row=np.arange(count),
            sample=rng.integers(0, self.samples, count).astype(np.int32),
            label=rng.choice(self.labels or tuple(range(len(self.description.classes))), count).astype(np.int8),
            translation=self._snap(rng.uniform(-1, 1, (count, 3)) * self.spread_m + 700),
            size_wlh=rng.uniform(0.3, 5, (count, 3)),
            rotation=rotation.astype(np.float64),
            velocity=velocity,
            attribute=attribute.astype(np.int8),
            ego_distance=np.zeros(count),
            score=np.full(count, -1.0),
            points=np.full(count, 5, dtype=np.int32),
            visibility=np.zeros(count, dtype=np.int8),
        )


def as_gt(boxes: BoxColumns) -> GtColumns:
    """Boxes as annotations: the n-th is called an, and has n LiDAR and n + 1 radar points inside."""
    number = np.arange(len(boxes), dtype=np.int32)
    names = np.array([f"a{index}" for index in number], dtype=object)
    columns = {column.name: getattr(boxes, column.name) for column in fields(boxes)}
    return GtColumns(**columns, token=names, instance=names, lidar_points=number, radar_points=number + 1)


def devkit_module(description: DatasetDescription, name: str) -> Any:
    """A module of the evaluation in the devkit of a data set."""
    return import_module(f"{_PACKAGES[description.name]}.eval.{name}")


def devkit_boxes(boxes: BoxColumns, samples: int, description: DatasetDescription = NUSCENES) -> Any:
    """The same boxes as ``EvalBoxes`` of the devkit of a data set."""
    detection_box = devkit_module(description, "detection.data_classes").DetectionBox
    result = devkit_module(description, "common.data_classes").EvalBoxes()
    for sample in range(samples):
        result.add_boxes(str(sample), [])
    for index in range(len(boxes)):
        attribute = int(boxes.attribute[index])
        box = detection_box(
            sample_token=str(boxes.sample[index]),
            translation=tuple(boxes.translation[index].tolist()),
            size=tuple(boxes.size_wlh[index].tolist()),
            rotation=tuple(boxes.rotation[index].tolist()),
            velocity=tuple(boxes.velocity[index].tolist()),
            detection_name=description.class_names[boxes.label[index]],
            detection_score=float(boxes.score[index]),
            attribute_name=description.attributes[attribute] if attribute >= 0 else "",
        )
        result.add_boxes(box.sample_token, [box])
    return result


def devkit_metrics(
    detections: BoxColumns, gt: BoxColumns, samples: int, description: DatasetDescription = NUSCENES
) -> Metrics:
    """What the matching and accumulation of a data set's devkit give, without its filters."""
    algo = devkit_module(description, "detection.algo")
    config = devkit_module(description, "common.config").config_factory(description.evaluation.protocol)
    detected, annotated = (devkit_boxes(boxes, samples, description) for boxes in (detections, gt))
    summary = devkit_module(description, "detection.data_classes").DetectionMetrics(config)
    for name in config.class_names:
        data = {
            distance: algo.accumulate(annotated, detected, name, config.dist_fcn_callable, distance)
            for distance in config.dist_ths
        }
        for distance, entry in data.items():
            summary.add_label_ap(name, distance, algo.calc_ap(entry, config.min_recall, config.min_precision))
        undefined = [DEVKIT_ERRORS[error] for error in description.classes[name].unscored]
        for error in DEVKIT_ERRORS.values():
            value = math.nan if error in undefined else algo.calc_tp(data[config.dist_th_tp], config.min_recall, error)
            summary.add_label_tp(name, error, value)
    return convert_summary(summary, description)


def metrics_of(detections: BoxColumns, gt: BoxColumns, description: DatasetDescription = NUSCENES) -> Metrics:
    """The boxes matched and scored."""
    return summarise(accumulate_columns(detections, gt, match(detections, gt, description), description), description)


def scoring_of(detections: BoxColumns, gt: GtColumns, description: DatasetDescription = NUSCENES) -> Scoring:
    """The boxes matched and scored, of a split of as many samples as they name."""
    matching = match(detections, gt, description)
    samples = 1 + int(max(detections.sample.max(initial=0), gt.sample.max(initial=0)))
    nothing = np.zeros((0, 3))
    split = SplitSamples(
        tuple(map(str, range(samples))),
        np.zeros((samples, 2)),
        np.zeros(0, dtype=np.int32),
        nothing,
        nothing,
        np.zeros((0, 4)),
        description,
    )
    curves = accumulate_columns(detections, gt, matching, description)
    return Scoring(split, detections, detections, gt, matching, curves, summarise(curves, description))


def scenes_of(scoring: Scoring) -> SplitScenes:
    """Two samples a scene, all of them by day and dry."""
    index = (np.arange(len(scoring.samples.tokens)) // 2).astype(np.int32)
    flags = np.zeros(int(index.max()) + 1, dtype=bool)
    return SplitScenes(tuple(map(str, range(len(flags)))), index, flags, flags)


def everything(scoring: Scoring) -> Slice:
    """The slice of all boxes."""
    return Slice(ALL, ALL, np.ones(len(scoring.gt), dtype=bool), np.ones(len(scoring.detections), dtype=bool))
