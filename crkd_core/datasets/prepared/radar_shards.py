"""Radar shards of a prepared data set: all radars' points of all sweeps, aggregated scene by scene."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from crkd_core.artifacts.packed_shards import (
    UNREADABLE,
    ItemKey,
    pack_arrays,
    read_packed,
    shard_name,
    unfinished_damaged,
    unpack_arrays,
    write_index,
    write_packed,
)
from crkd_core.cores import helpers
from crkd_core.datasets.nuscenes.nuscenes_tables import NuScenesTables
from crkd_core.datasets.nuscenes.radar import compact_sweeps, read_sweeps
from crkd_core.datasets.nuscenes.survey import Survey
from crkd_core.datasets.nuscenes.sweeps import SampleFiles, lidar_from_sensor, repeat_oldest
from crkd_core.progress import Progress
from crkd_core.workers import workers

_Result = TypeVar("_Result")
_JOBS_AHEAD = 3


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
    paths: list[str]
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
    points = {
        number: _points_of_shard(folder / shard, [tables.samples.tokens[row] for row in scenes[number]])
        for number, shard in enumerate(shards)
        if number not in set(todo)
    }
    done = sum(len(counted) for counted in points.values())

    def job(number: int) -> RadarJob:
        return radar_job(tables, survey.files, scenes[number], survey.source.dataroot, folder / shards[number])

    processes = helpers(processes, len(todo), "scene", progress) if todo else 1
    with progress.task("radar", total=len(order), unit="samples", done=done) as task:

        def add(number: int, counted: NDArray[np.int32]) -> None:
            points[number] = counted
            task.advance(len(counted))

        _for_each(todo, job, write_radar_shard, add, processes)
    write_index(folder, shards)
    return np.concatenate([points[number] for number in range(len(scenes))])


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
        paths=_located(dataroot, tables.sensors.path.some(used[absent:])),
        files=indices.reshape(chosen.shape) - absent,
        lidar_from_radar=matrices,
        age_s=age_s,
    )


def _located(dataroot: Path, paths: list[str]) -> list[str]:
    """Names of files, relative to the data root or absolute, as names to open."""
    root = os.path.join(dataroot, "")
    return [path if path.startswith("/") else root + path for path in paths]


def write_radar_shard(job: RadarJob) -> NDArray[np.int32]:
    """Read and aggregate the radar points of one scene and write its shard; returns (S, 5, R) points of every sweep.

    Raises:
        DatasetError: a radar file is missing or damaged.
    """
    records, counts = read_sweeps(job.paths)
    present = job.files >= 0
    file = job.files[present]
    # The records of every sweep of every sample, from where its file's records are.
    points = counts[file]
    starts = (np.cumsum(counts) - counts)[file] - (np.cumsum(points) - points)
    rows = np.repeat(starts, points) + np.arange(points.sum())
    values, codes = compact_sweeps(np.take(records, rows), points, job.lidar_from_radar[present], job.age_s[present])
    sweep_points = np.zeros(job.files.shape, dtype=np.int32)
    sweep_points[present] = points
    ends = np.cumsum(sweep_points.sum(axis=(1, 2)))[:-1]
    items = {
        ItemKey(token): pack_arrays({"values": of_sample[0], "codes": of_sample[1], "sweep_points": of_sample[2]})
        for token, *of_sample in zip(
            job.tokens, np.split(values, ends), np.split(codes, ends), sweep_points, strict=True
        )
    }
    write_packed(job.shard, items)
    return sweep_points


def count_radar_points(job: RadarJob) -> NDArray[np.int32]:
    """(S, 5, R) points of every sweep of one scene, without aggregating or writing them.

    Raises:
        DatasetError: a radar file is missing or damaged.
    """
    # One more for -1, no file.
    points = np.array([*read_sweeps(job.paths)[1], 0], dtype=np.int32)
    return points[job.files]


def _points_of_shard(shard: Path, tokens: Sequence[str]) -> NDArray[np.int32]:
    """What :func:`write_radar_shard` returned when a shard of these samples was written."""
    try:
        points = {key.token: unpack_arrays(item)["sweep_points"] for key, item in read_packed(shard)}
    except UNREADABLE as error:
        raise unfinished_damaged(shard, error) from None
    return np.stack([points[token] for token in tokens])


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
        # A few jobs at a time: making all of them first would take minutes and gigabytes before the first is done.
        waiting, running = iter(numbers), dict[Future, int]()
        while True:
            some = list(islice(waiting, _JOBS_AHEAD * processes - len(running)))
            running |= zip(pool.submit(work, ((make_job(number),) for number in some)), some, strict=True)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done(running.pop(future), future.result())
