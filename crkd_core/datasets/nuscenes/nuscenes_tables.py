"""nuScenes' linked JSON tables as columns: what detection needs, links resolved to row numbers.

Only the records that are needed are kept: LiDAR and radar data, camera key frames, the poses these refer to, and the
annotations of the ten detection classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.annotations import AnnotationColumns, RackColumns, read_annotations
from crkd_core.datasets.nuscenes.notes import TableNotes
from crkd_core.datasets.nuscenes.scenes import SampleColumns, SceneRecord, check_sample_links, read_samples, read_scenes
from crkd_core.datasets.nuscenes.sensor_tables import (
    CHANNELS,
    LIDAR_INDEX,
    SensorColumns,
    read_calibration,
    read_poses,
    read_sensors,
)
from crkd_core.datasets.nuscenes.time_stamps import check_time_stamps

__all__ = ["CHANNELS", "LIDAR_INDEX", "NuScenesTables", "read_tables"]


@dataclass(frozen=True)
class NuScenesTables:
    """The tables of one version; see the classes of the columns.

    Attributes:
        ego_from_sensor, intrinsics: (K, 4, 4) and (K, 3, 3; zero for other sensors than cameras) of calibrated sensors.
        global_from_ego: (R, 4, 4) of the kept ego poses.
        other_annotations: how many annotations are of categories that are not detected.
        dropped_sample: (D,) row of the sample of every box of a detected class that was unusable.
        notes: what was left out or looked odd.
    """

    scenes: list[SceneRecord]
    samples: SampleColumns
    sensors: SensorColumns
    ego_from_sensor: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    global_from_ego: NDArray[np.float64]
    annotations: AnnotationColumns
    racks: RackColumns
    other_annotations: int
    dropped_sample: NDArray[np.int32]
    notes: TableNotes


def read_tables(folder: Path, allow_outside: bool = False) -> NuScenesTables:
    """Read the tables of a version folder.

    Args:
        allow_outside: take names of sensor files that lead out of the data root (the folder of `folder`).

    Raises:
        DatasetError: a table is missing or damaged, a record lacks a field, has a value of another kind or refers to a
            record that is not there, time stamps are not in microseconds, or no annotation can be used.
    """
    scenes, scene_rows = read_scenes(folder)
    samples, sample_rows = read_samples(folder, scene_rows)
    calibration = read_calibration(folder)
    sensors, pose_index = read_sensors(folder, sample_rows, calibration, allow_outside)
    check_time_stamps(folder, samples, sensors)
    check_sample_links(folder, samples, sample_rows)
    global_from_ego, pose_oddities = read_poses(folder, pose_index)
    read = read_annotations(folder, sample_rows, samples.timestamp_us)
    oddities = (*_scene_oddities(scenes), *calibration.oddities, *pose_oddities)
    return NuScenesTables(
        scenes=scenes,
        samples=samples,
        sensors=sensors,
        ego_from_sensor=calibration.ego_from_sensor,
        intrinsics=calibration.intrinsics,
        global_from_ego=global_from_ego,
        annotations=read.annotations,
        racks=read.racks,
        other_annotations=read.others,
        dropped_sample=read.dropped_sample,
        notes=replace(read.notes, oddities=(*oddities, *read.notes.oddities)),
    )


def _scene_oddities(scenes: Sequence[SceneRecord]) -> list[str]:
    silent = sum(not scene.description for scene in scenes)
    return [f"{silent} of {len(scenes)} scenes have no description, and count as day and dry"] if silent else []
