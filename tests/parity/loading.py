"""Reading sensors: LiDAR sweeps, radar sweeps, calibration and labels of a sample."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crkd_core.config.data import LidarConfig
from crkd_core.data.points import load_lidar, training_boxes
from crkd_core.datasets.nuscenes.radar import compact_features, expand_features, parse_radar
from crkd_core.datasets.prepared.prepared_data import Annotations, LidarSweeps
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.transforms import compose, inverse_rigid, rigid_transforms
from tests.parity.cases import GoldenCase
from tests.parity.comparison import Comparison
from tests.parity.released import UNBOUNDED, boxes_from_released, boxes_to_released
from tests.support.described import CLASSES
from tests.support.poses import pose

_AGE = 6
# The devkit's own filter, which the published loader offers and no setting uses.
_FILTER = {"invalid_state": (0,), "dyn_prop": tuple(range(7)), "ambig_state": (3,)}


def run_lidar_loading(comparison: Comparison) -> None:
    """The key frame and its sweeps in one frame, with their ages; and a key frame alone."""
    case = comparison.case
    count = len(case.series_of("in/sweep", "/raw"))
    comparison.check("out/points", _load(case, range(count)))
    if "out/points_no_sweeps" in case:
        comparison.rule("no-repeat")
        alone, recorded = (np.unique(p, axis=0) for p in (_load(case, [0]), case.arrays["out/points_no_sweeps"]))
        same = alone.shape == recorded.shape and bool(np.allclose(alone, recorded, rtol=1e-6, atol=1e-6))
        comparison.require("out/points_no_sweeps", same, "not the same points")


def _load(case: GoldenCase, chosen: range | list[int]) -> NDArray[np.float32]:
    """Through files, as users do; nothing is out of range."""
    raws = case.series_of("in/sweep", "/raw")
    near = 1.0 if case.config.get("remove_close", True) else 0.0
    with tempfile.TemporaryDirectory() as folder:
        for index, raw in enumerate(raws):
            raw.astype("<f4").tofile(Path(folder) / f"{index}.pcd.bin")
        sweeps = LidarSweeps(
            tuple(f"{index}.pcd.bin" for index in range(len(raws))),
            np.arange(len(raws)),
            np.array([_age(case, f"in/sweep{index}/timestamp") for index in range(len(raws))]),
            np.stack([_pose(case, f"in/sweep{index}/") for index in range(len(raws))]),
        )
        return load_lidar(
            Path(folder), sweeps, np.array(chosen), np.eye(4), LidarConfig(min_distance_m=near), UNBOUNDED
        )


def _age(case: GoldenCase, key: str) -> float:
    """Seconds before the key frame; the key frame itself has no time of its own."""
    return (int(case.arrays["in/timestamp"]) - int(case.arrays[key])) * 1e-6 if key in case else 0.0


def _pose(case: GoldenCase, prefix: str) -> NDArray[np.float64]:
    if f"{prefix}rotation__f64" not in case:
        return np.eye(4)
    return rigid_transforms(case.arrays[f"{prefix}rotation__f64"], case.arrays[f"{prefix}translation__f64"])


def run_radar_loading(comparison: Comparison) -> None:
    """All sweeps of all radars in one frame, as the 45 features of a point."""
    case = comparison.case
    for key in case.keys("out/"):
        if key == "out/normalize_true/points":
            comparison.leave_out(key, "unused-option")
            continue
        features = _radar_features(case, "compensate_1" in key, "filter_default" in key)
        if "compensate_0" in key:
            comparison.rule("uncompensated")
        if "filter_default" in key:
            comparison.rule("preselected")
        columns = None
        if key.endswith("/all58"):
            comparison.rule("unused-columns")
            columns = case.config["use_dim"]
        comparison.check(key, features, columns=columns)


def _radar_features(case: GoldenCase, compensate: bool, preselect: bool) -> NDArray[np.float32]:
    parts = [np.zeros((0, 45), np.float32)]
    for radar, sweeps in case.config["radars"].items():
        for sweep in range(min(sweeps, case.config["sweeps_num"])):
            name = f"in/{radar}/{sweep}"
            records = parse_radar(case.arrays[f"{name}/pcd_bytes"].tobytes(), name)
            if preselect:
                records = records[np.all([np.isin(records[f], kept) for f, kept in _FILTER.items()], axis=0)]
            lidar_from_sensor = rigid_transforms(
                case.arrays[f"{name}/sensor2lidar_rotation__f64"],
                case.arrays[f"{name}/sensor2lidar_translation__f64"],
            )
            newest = int(case.arrays[f"in/{radar}/0/timestamp"])
            age = (newest - int(case.arrays[f"{name}/timestamp"])) * 1e-6
            values, codes = compact_features(records, lidar_from_sensor, age if compensate else 0.0)
            values[:, _AGE] = age
            parts.append(expand_features(values, codes))
    return np.concatenate(parts)


def run_dataset_info(comparison: Comparison) -> None:
    """Calibration matrices and labels of one sample."""
    case = comparison.case
    for name in ("ego2global", "lidar2ego"):
        comparison.check(f"out/{name}", _from_quaternion(case, f"in/{name}"))
    cameras = range(len(case.series_of("in/cam", "/cam_intrinsic__f64")))
    lidar_from_camera = [_from_matrix(case, f"in/cam{index}/sensor2lidar") for index in cameras]
    intrinsics = [rigid_transforms(case.arrays[f"in/cam{index}/cam_intrinsic__f64"], np.zeros(3)) for index in cameras]
    calibration = {
        "camera2lidar": lidar_from_camera,
        "lidar2camera": [inverse_rigid(matrix) for matrix in lidar_from_camera],
        "lidar2image": [compose(k, inverse_rigid(m)) for k, m in zip(intrinsics, lidar_from_camera)],
        "camera2ego": [_from_quaternion(case, f"in/cam{index}/sensor2ego") for index in cameras],
        "camera_intrinsics": intrinsics,
    }
    for name, matrices in calibration.items():
        comparison.check(f"out/{name}", np.stack(matrices))
    _check_labels(comparison)


def _check_labels(comparison: Comparison) -> None:
    """Of classes that are not detected we read no boxes at all."""
    case = comparison.case
    names = case.config["names"]
    known = np.array([name in CLASSES for name in names], dtype=bool)
    recorded = np.concatenate([case.arrays["in/gt_boxes__f64"], case.arrays["in/gt_velocity__f64"]], axis=1)
    boxes = boxes_from_released(torch.from_numpy(recorded[known]).float(), centred=True)
    labels = torch.tensor([CLASSES.index(name) for name in names if name in CLASSES])
    annotations = annotations_of(boxes, labels.long(), case.arrays["in/valid_flag"][known])
    kept_boxes, kept_labels = training_boxes(annotations, np.eye(4), UNBOUNDED, require_points=True)
    kept = case.arrays["out/gt_labels_3d"] >= 0
    if not kept.all():
        comparison.rule("unknown-class")
    near_yaw = case["out/gt_bboxes_3d"][kept][:, 6]
    comparison.check("out/gt_bboxes_3d", boxes_to_released(kept_boxes, near_yaw), rows=kept)
    comparison.check("out/gt_labels_3d", kept_labels, rows=kept)


def annotations_of(boxes: Boxes3D, labels: torch.Tensor, has_points: NDArray[np.bool_]) -> Annotations:
    """Annotations of a sample of which only boxes, labels and whether a point lies inside matter."""
    count = len(boxes)
    return Annotations(
        tokens=[""] * count,
        instances=[""] * count,
        boxes=boxes,
        labels=labels,
        translation=np.zeros((count, 3)),
        rotation=np.zeros((count, 4)),
        velocity=np.zeros((count, 3)),
        visibility=np.zeros(count, np.int8),
        lidar_points=has_points.astype(np.int32),
        radar_points=np.zeros(count, np.int32),
        attributes=[""] * count,
    )


def _from_quaternion(case: GoldenCase, prefix: str) -> NDArray[np.float64]:
    return pose(case.arrays[f"{prefix}_rotation__f64"], case.arrays[f"{prefix}_translation__f64"])


def _from_matrix(case: GoldenCase, prefix: str) -> NDArray[np.float64]:
    return rigid_transforms(case.arrays[f"{prefix}_rotation__f64"], case.arrays[f"{prefix}_translation__f64"])
