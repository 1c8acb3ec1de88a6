"""Radar shards of a prepared data set: all radars' points of all sweeps, aggregated scene by scene."""

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from crkd_core.artifacts.shards import ItemKey, read_shard, shard_name, write_index, write_shard
from crkd_core.cores import helpers
from crkd_core.datasets.nuscenes.nuscenes_tables import NuScenesTables
from crkd_core.datasets.nuscenes.radar import CODES, VALUES, compact_features, read_radar
from crkd_core.datasets.nuscenes.survey import Survey
from crkd_core.datasets.nuscenes.sweeps import SampleFiles, lidar_from_sensor, repeat_oldest
from crkd_core.progress import Progress
from crkd_core.workers import workers

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class RadarJob:
    """What a worker process needs to make the radar shard of one scene.

    Attributes:
        shard: file to write.
        tokens: the scene's samples.
        paths: the scene's radar files.
        files: (S, 5, R) index into `paths`, -1 where there is none.
        lidar_from_radar: (S, 5, R, 4, 4); `age_s`: (S, 5, R).
    """

    shard: Path
    tokens: list[str]
    paths: list[Path]
    files: NDArray[np.int64]
    lidar_from_radar: NDArray[np.float64]
    age_s: NDArray[np.float64]


def write_radar_shards(
    folder: Path, survey: Survey, order: NDArray[np.int64], processes: int, progress: Progress
) -> NDArray[np.int32]:
    """Write the shards that are not there yet and their index; returns the points of every sweep, (S, 5, R).

    Args:
        order: rows of the samples, scene by scene.
        processes: worker processes asked for.

    Raises:
        DatasetError: a radar file is missing or damaged.
        WriteError: a shard cannot be written.
    """
    tables, scenes = survey.source.tables, _split_by_scene(survey, order)
    shards = [shard_name(number) for number in range(len(scenes))]
    todo = [number for number, shard in enumerate(shards) if not (folder / shard).exists()]
    done = len(order) - sum(len(scenes[number]) for number in todo)

    def job(number: int) -> RadarJob:
        return radar_job(tables, survey.files, scenes[number], survey.source.dataroot, folder / shards[number])

    processes = helpers(processes, len(todo), "scene", progress) if todo else 1
    with progress.task("radar", total=len(order), unit="samples", done=done) as task:
        _for_each(todo, job, write_radar_shard, lambda _, samples: task.advance(samples), processes)
    write_index(folder, shards)
    points = {key.token: item["sweep_points"].numpy() for shard in shards for key, item in read_shard(folder / shard)}
    return np.stack([points[tables.samples.tokens[row]] for row in order])


def count_all_radar_points(
    survey: Survey, order: NDArray[np.int64], processes: int, progress: Progress
) -> NDArray[np.int32]:
    """(S, 5, R) points of every sweep of the samples, without aggregating or writing them.

    Args:
        order: rows of the samples, scene by scene.
        processes: worker processes asked for.

    Raises:
        DatasetError: a radar file is missing or damaged.
    """
    scenes = _split_by_scene(survey, order)
    points: dict[int, NDArray[np.int32]] = {}

    def job(number: int) -> RadarJob:
        return radar_job(survey.source.tables, survey.files, scenes[number], survey.source.dataroot, Path())

    with progress.task("radar", total=len(order), unit="samples") as task:

        def add(number: int, counted: NDArray[np.int32]) -> None:
            points[number] = counted
            task.advance(len(counted))

        processes = helpers(processes, len(scenes), "scene", progress)
        _for_each(range(len(scenes)), job, count_radar_points, add, processes)
    return np.concatenate([points[number] for number in range(len(scenes))])


def radar_job(
    tables: NuScenesTables, files: SampleFiles, samples: NDArray[np.int64], dataroot: Path, shard: Path
) -> RadarJob:
    """The work of one scene, whose `samples` are rows of the sample table."""
    chosen = repeat_oldest(files.radar[samples])
    used, indices = np.unique(chosen, return_inverse=True)
    absent = int(len(used) > 0 and used[0] < 0)
    present = chosen >= 0
    matrices = np.tile(np.eye(4), (*chosen.shape, 1, 1))
    age_s = np.zeros(chosen.shape)
    sample, channel, _ = np.nonzero(present)
    rows, newest = chosen[present], chosen[sample, channel, 0]
    matrices[present] = lidar_from_sensor(tables, files.lidar_key[samples[sample]], rows)
    age_s[present] = (tables.sensors.timestamp_us[newest] - tables.sensors.timestamp_us[rows]) * 1e-6
    return RadarJob(
        shard=shard,
        tokens=[tables.samples.tokens[row] for row in samples],
        paths=[dataroot / tables.sensors.path[row] for row in used[absent:]],
        files=indices.reshape(chosen.shape) - absent,
        lidar_from_radar=matrices,
        age_s=age_s,
    )


def write_radar_shard(job: RadarJob) -> int:
    """Read and aggregate the radar points of one scene and write its shard; returns the number of samples.

    Raises:
        DatasetError: a radar file is missing or damaged.
    """
    records = [read_radar(path) for path in job.paths]
    items = {}
    for number, token in enumerate(job.tokens):
        values, codes = [np.zeros((0, VALUES), np.float32)], [np.zeros((0, CODES), np.uint8)]
        counts = np.zeros(job.files.shape[1:], dtype=np.int32)
        for sweep in np.ndindex(*counts.shape):
            index = (number, *sweep)
            file = job.files[index]
            if file >= 0:
                part = compact_features(records[file], job.lidar_from_radar[index], float(job.age_s[index]))
                values.append(part[0])
                codes.append(part[1])
                counts[sweep] = len(part[0])
        items[ItemKey(token)] = {
            "values": torch.from_numpy(np.concatenate(values)),
            "codes": torch.from_numpy(np.concatenate(codes)),
            "sweep_points": torch.from_numpy(counts),
        }
    write_shard(job.shard, items)
    return len(items)


def count_radar_points(job: RadarJob) -> NDArray[np.int32]:
    """(S, 5, R) points of every sweep of one scene, without aggregating or writing them.

    Raises:
        DatasetError: a radar file is missing or damaged.
    """
    # One more for -1, no file.
    points = np.array([*(len(read_radar(path)) for path in job.paths), 0], dtype=np.int32)
    return points[job.files]


def _split_by_scene(survey: Survey, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    scenes = survey.source.tables.samples.scene[order]
    return np.split(order, np.flatnonzero(scenes[1:] != scenes[:-1]) + 1)


def _for_each(
    numbers: Sequence[int],
    make_job: Callable[[int], RadarJob],
    work: Callable[[RadarJob], _Result],
    done: Callable[[int, _Result], None],
    processes: int,
) -> None:
    """Do the work of every number in so many processes, and call `done` with the number and the result of each."""
    if processes == 1:
        for number in numbers:
            done(number, work(make_job(number)))
        return
    with workers(processes) as pool:
        futures = dict(zip(pool.submit(work, ((make_job(number),) for number in numbers)), numbers, strict=True))
        for future in as_completed(futures):
            done(futures[future], future.result())
