"""Tables of a prepared data set, from raw nuScenes columns.

Files of a ``prepare`` artifact (poses are row-major 4x4 in float64):

- ``samples.parquet``: one row a key frame, in the order of scenes and time: ``token``, ``scene_token``,
  ``scene_name``, ``splits``, ``timestamp_us``, ``prev``, ``next``, ``description``, ``location``, ``night``, ``rain``,
  ``global_from_lidar``, ``global_from_ego`` (both at the LiDAR's time).
- ``cameras.parquet``: six rows a sample: ``sample`` (row), ``channel``, ``path``, ``timestamp_us``, ``width``,
  ``height``, ``intrinsics`` (3x3), ``lidar_from_camera``.
- ``lidar_sweeps.parquet``: ``sample``, ``index`` (0: key frame, then newest first), ``path``, ``age_s``,
  ``lidar_from_sweep``.
- ``radar_sweeps.parquet``: ``sample``, ``channel``, ``index``, ``path``, ``age_s``, ``points``; what filled up a short
  history is listed again.
- ``annotations.parquet``: boxes of the ten classes: ``token``, ``instance``, ``sample``, ``label``, ``box`` (gravity
  centre, w, l, h, yaw, vx, vy in the key frame's LiDAR frame; NaN velocity where undefined), ``translation``,
  ``rotation`` (w, x, y, z), ``velocity`` (all three in the global frame), ``visibility``, ``lidar_points``,
  ``radar_points`` (-1 where nobody knows, see :mod:`crkd_core.datasets.nuscenes.point_counts`), ``attribute``.
- ``bicycle_racks.parquet``: ``sample``, ``translation``, ``size`` (w, l, h), ``rotation``, in the global frame; the
  evaluation leaves out the cycles that stand in one.
- ``left_out_samples.parquet``, only where key frames were left out for want of files: ``token``, ``scene_name``,
  ``splits``, ``lacks`` (the channels whose files are missing).
- ``radar/``: tensor shards, one a scene: ``values`` (P, 7), ``codes`` (P, 4), ``sweep_points`` (5, sweeps), all radars'
  points of all sweeps, unfiltered, in the key frame's LiDAR frame (see :mod:`crkd_core.datasets.nuscenes.radar` and
  :mod:`crkd_core.datasets.prepared.radar_shards`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crkd_core.config.classes import CAMERA_CHANNELS, RADAR_CHANNELS
from crkd_core.datasets.nuscenes.annotations import AnnotationColumns
from crkd_core.datasets.nuscenes.nuscenes_tables import NuScenesTables
from crkd_core.datasets.nuscenes.survey import Survey
from crkd_core.datasets.nuscenes.sweeps import SampleFiles, global_from_sensor, lidar_from_sensor, repeat_oldest
from crkd_core.datasets.nuscenes.weather import is_night, is_rain
from crkd_core.geometry.transforms import inverse_rigid, rotate_vectors, rotations_from_quaternions, transform_points

SAMPLES, CAMERAS, ANNOTATIONS = "samples.parquet", "cameras.parquet", "annotations.parquet"
LIDAR_SWEEPS, RADAR_SWEEPS = "lidar_sweeps.parquet", "radar_sweeps.parquet"
BICYCLE_RACKS = "bicycle_racks.parquet"
LEFT_OUT = "left_out_samples.parquet"
RADAR_FOLDER = "radar"
DEVKIT_DIFFERENCES = "devkit_differences"
"""Fact of the artifact, see :func:`devkit_differences`."""
LIDAR_COLUMNS = "lidar_columns"
"""Setting of data whose LiDAR files have other columns than those of nuScenes."""

_BOX_DECIMALS = 9
_AT_ONCE = 1 << 13


def devkit_differences(tables: NuScenesTables, splits: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """By split, how many boxes of what kind the nuScenes devkit, which reads the tables itself, treats otherwise."""
    differs = tables.annotations.sample[~tables.annotations.devkit_agrees]
    differences: dict[str, dict[str, int]] = {}
    for kind, samples in (("unusable", tables.dropped_sample), ("without point counts or attributes", differs)):
        for scene in tables.samples.scene[samples].tolist():
            for split in splits.get(tables.scenes[scene].name, ()):
                counts = differences.setdefault(split, {})
                counts[kind] = counts.get(kind, 0) + 1
    return differences


def order_samples(tables: NuScenesTables, kept: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Rows of the samples by scene name, then time: the order of a prepared data set.

    Args:
        kept: (S,) samples that the data set is to have; None for all.
    """
    names = np.array([scene.name for scene in tables.scenes])
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(names, kind="stable")] = np.arange(len(names))
    order = np.lexsort((tables.samples.timestamp_us, rank[tables.samples.scene]))
    return order if kept is None else order[kept[order]]


def sample_table(
    tables: NuScenesTables, files: SampleFiles, order: NDArray[np.int64], splits: Mapping[str, Sequence[str]]
) -> pa.Table:
    """``samples.parquet``."""
    samples, lidar = tables.samples, files.lidar_key[order]
    scenes = [tables.scenes[scene] for scene in samples.scene[order]]
    return pa.table(
        {
            "token": [samples.tokens[row] for row in order],
            "scene_token": [scene.token for scene in scenes],
            "scene_name": [scene.name for scene in scenes],
            "splits": pa.array([list(splits.get(scene.name, ())) for scene in scenes], pa.list_(pa.string())),
            "timestamp_us": samples.timestamp_us[order],
            "prev": [samples.previous[row] for row in order],
            "next": [samples.following[row] for row in order],
            "description": [scene.description for scene in scenes],
            "location": [scene.location for scene in scenes],
            "night": [is_night(scene.description) for scene in scenes],
            "rain": [is_rain(scene.description) for scene in scenes],
            "global_from_lidar": _vectors(global_from_sensor(tables, lidar)),
            "global_from_ego": _vectors(tables.global_from_ego[tables.sensors.pose[lidar]]),
        }
    )


def evaluation_tables(
    tables: NuScenesTables, files: SampleFiles, order: NDArray[np.int64], splits: Mapping[str, Sequence[str]]
) -> dict[str, pa.Table]:
    """The tables that metrics need, by file name: samples, annotations and bicycle racks."""
    return {
        SAMPLES: sample_table(tables, files, order, splits),
        ANNOTATIONS: annotation_table(tables, files, order),
        BICYCLE_RACKS: rack_table(tables, order),
    }


def prepared_tables(survey: Survey, order: NDArray[np.int64]) -> dict[str, pa.Table]:
    """All tables of the samples in `order` but :func:`radar_table`, by file name."""
    tables, files = survey.source.tables, survey.files
    return {
        **evaluation_tables(tables, files, order, survey.source.splits.of_scene),
        CAMERAS: camera_table(tables, files, order),
        LIDAR_SWEEPS: lidar_table(tables, files, order),
    }


def camera_table(tables: NuScenesTables, files: SampleFiles, order: NDArray[np.int64]) -> pa.Table:
    """``cameras.parquet``."""
    sensors, rows = tables.sensors, files.cameras[order].ravel()
    lidar = np.repeat(files.lidar_key[order], len(CAMERA_CHANNELS))
    return pa.table(
        {
            "sample": np.repeat(np.arange(len(order), dtype=np.int32), len(CAMERA_CHANNELS)),
            "channel": list(CAMERA_CHANNELS) * len(order),
            "path": sensors.path.take(rows),
            "timestamp_us": sensors.timestamp_us[rows],
            "width": sensors.width[rows],
            "height": sensors.height[rows],
            "intrinsics": _vectors(tables.intrinsics[sensors.calibration[rows]]),
            "lidar_from_camera": _vectors(lidar_from_sensor(tables, lidar, rows)),
        }
    )


def lidar_table(tables: NuScenesTables, files: SampleFiles, order: NDArray[np.int64]) -> pa.Table:
    """``lidar_sweeps.parquet``; a sample at the start of a scene has fewer rows (nothing is repeated)."""
    sensors, chosen = tables.sensors, files.lidar[order]
    sample, index = np.nonzero(chosen >= 0)
    rows, key = chosen[sample, index], files.lidar_key[order][sample]
    return pa.table(
        {
            "sample": sample.astype(np.int32),
            "index": index.astype(np.int32),
            "path": sensors.path.take(rows),
            "age_s": (sensors.timestamp_us[key] - sensors.timestamp_us[rows]) * 1e-6,
            "lidar_from_sweep": _vectors(lidar_from_sensor(tables, key, rows)),
        }
    )


def annotation_table(tables: NuScenesTables, files: SampleFiles, order: NDArray[np.int64]) -> pa.Table:
    """``annotations.parquet``, grouped by sample."""
    annotations = tables.annotations
    row_of_sample = _prepared_rows(order, len(tables.samples.tokens))
    rows = _grouped(row_of_sample[annotations.sample])
    sample = annotations.sample[rows]
    boxes = np.empty((len(rows), 9))
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        boxes[part] = _boxes_in_lidar(annotations, rows[part], tables, files.lidar_key)
    return pa.table(
        {
            "token": annotations.token.take(rows),
            "instance": pa.array([annotations.instance[row] for row in rows], pa.string()),
            "sample": row_of_sample[sample].astype(np.int32),
            "label": annotations.label[rows],
            "box": _vectors(boxes),
            "translation": _vectors(annotations.translation[rows]),
            "rotation": _vectors(annotations.rotation[rows]),
            "velocity": _vectors(annotations.velocity[rows]),
            "visibility": annotations.visibility[rows],
            "lidar_points": annotations.lidar_points[rows],
            "radar_points": annotations.radar_points[rows],
            "attribute": pa.array([annotations.attribute[row] for row in rows], pa.string()),
        }
    )


def _boxes_in_lidar(
    annotations: AnnotationColumns, rows: NDArray[np.int64], tables: NuScenesTables, lidar_key: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N, 9) boxes of some annotations in the LiDAR frames of their key frames."""
    lidar_from_global = inverse_rigid(global_from_sensor(tables, lidar_key[annotations.sample[rows]]))
    rotation = lidar_from_global[:, :3, :3]
    centre = transform_points(lidar_from_global, annotations.translation[rows])
    heading = rotate_vectors(rotation, rotations_from_quaternions(annotations.rotation[rows])[:, :, 0])
    # The vertical part of a velocity is left out before rotating, as the devkit's evaluation does.
    velocity = np.einsum("nij,nj->ni", rotation[:, :2, :2], annotations.velocity[rows, :2])
    velocity[np.isnan(velocity)] = np.nan
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    # The last bit, and the sign of an undefined value, can depend on where arrays lie; equal runs write equal bytes.
    centre, yaw, velocity = (np.round(computed, _BOX_DECIMALS) for computed in (centre, yaw, velocity))
    # Sizes are kept to the bit: the metrics compare them with those of the detections.
    return np.concatenate([centre, annotations.size_wlh[rows], yaw[:, None], velocity], axis=1)


def rack_table(tables: NuScenesTables, order: NDArray[np.int64]) -> pa.Table:
    """``bicycle_racks.parquet``, grouped by sample."""
    racks = tables.racks
    sample = _prepared_rows(order, len(tables.samples.tokens))[racks.sample]
    rows = _grouped(sample)
    return pa.table(
        {
            "sample": sample[rows].astype(np.int32),
            "translation": _vectors(racks.translation[rows]),
            "size": _vectors(racks.size_wlh[rows]),
            "rotation": _vectors(racks.rotation[rows]),
        }
    )


def left_out_table(
    tables: NuScenesTables, lacking: Mapping[int, list[str]], splits: Mapping[str, Sequence[str]]
) -> pa.Table:
    """``left_out_samples.parquet``; `lacking` has the channels that are missing by row of the sample."""
    rows = [row for row in order_samples(tables).tolist() if row in lacking]
    scenes = [tables.scenes[tables.samples.scene[row]].name for row in rows]
    of_samples = [list(splits.get(scene, ())) for scene in scenes]
    return pa.table(
        {
            "token": [tables.samples.tokens[row] for row in rows],
            "scene_name": scenes,
            "splits": pa.array(of_samples, pa.list_(pa.string())),
            "lacks": pa.array([lacking[row] for row in rows], pa.list_(pa.string())),
        }
    )


def radar_table(
    tables: NuScenesTables, files: SampleFiles, order: NDArray[np.int64], points: NDArray[np.int32]
) -> pa.Table:
    """``radar_sweeps.parquet``; `points` (S, 5, R) counts the points of every sweep in the shards."""
    sensors, chosen = tables.sensors, repeat_oldest(files.radar[order])
    sample, channel, index = np.nonzero(chosen >= 0)
    rows, newest = chosen[sample, channel, index], chosen[sample, channel, 0]
    return pa.table(
        {
            "sample": sample.astype(np.int32),
            "channel": pa.array([RADAR_CHANNELS[number] for number in channel], pa.string()),
            "index": index.astype(np.int32),
            "path": sensors.path.take(rows),
            "age_s": (sensors.timestamp_us[newest] - sensors.timestamp_us[rows]) * 1e-6,
            "points": points[sample, channel, index],
        }
    )


def _prepared_rows(order: NDArray[np.int64], samples: int) -> NDArray[np.int64]:
    """Row of each of so many samples in the prepared tables; -1 for those that are left out."""
    rows = np.full(samples, -1, dtype=np.int64)
    rows[order] = np.arange(len(order))
    return rows


def _grouped(sample: NDArray[np.int64]) -> NDArray[np.int64]:
    """Records in the order of their samples, those of left-out samples (-1) dropped."""
    rows = np.argsort(sample, kind="stable")
    return rows[sample[rows] >= 0]


def _vectors(values: NDArray[np.float64]) -> pa.FixedSizeListArray:
    width = int(np.prod(values.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel(), pa.float64()), width)
