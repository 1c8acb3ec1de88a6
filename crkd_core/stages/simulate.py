"""Stage: write a simulated data set in the nuScenes format."""

import time
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import explain_write_errors, write_text
from crkd_core.artifacts.locks import locked
from crkd_core.cores import helpers
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.rig import build_rig
from crkd_core.datasets.simulated.writer.folder import (
    FINISHED,
    MARKER,
    WorldFolder,
    counts_of,
    read_marker,
    read_scene,
    write_marker,
    write_scene,
)
from crkd_core.datasets.simulated.writer.names import scene_plans
from crkd_core.datasets.simulated.writer.scene import ScenePlan, channel_folders, simulate_scene
from crkd_core.datasets.simulated.writer.tables import TABLES, fixed_tables, table_text
from crkd_core.errors import DatasetError, UsageError
from crkd_core.progress import Progress, Task
from crkd_core.workers import workers


@dataclass(frozen=True)
class SimulateRequest:
    """What to simulate and where to; `force` replaces what is at `out`."""

    out: Path
    config: SimulationConfig
    processes: int
    force: bool = False


@dataclass(frozen=True)
class SimulateResult:
    """Where the data set is and how much is in it; `seconds` is this run's time."""

    root: Path
    version: str
    scenes: int
    samples: int
    annotations: int
    seconds: float


def simulate(request: SimulateRequest, progress: Progress) -> SimulateResult:
    """Write the data set that the configuration describes to `request.out`.

    Everything goes to `<out>.partial` first and is renamed when it is complete. A run that was stopped goes on from its
    last finished scene; the bytes are the same whatever the number of processes and interruptions.

    Raises:
        UsageError: if `out` holds something else and `force` is not given, or the number of processes is not positive.
        WriteError: if the disk is full or does not take the files.
    """
    started = time.monotonic()
    out = request.out.absolute()
    if request.processes < 1:
        raise UsageError(f"processes is {request.processes}: at least 1 is needed.")
    folder = WorldFolder(out)
    finished = None if request.force else _existing_result(out, request, started)
    if finished is not None and folder.is_settled:
        return _already_there(finished, progress)
    partial = folder.partial
    with locked(partial), explain_write_errors(partial):
        is_completed = folder.settle() == request.config.digest()
        finished = _existing_result(out, request, started) if is_completed or not request.force else None
        if finished is not None:
            return _already_there(finished, progress)
        folder.check_in_way(may_set_aside=request.force)
        _check_partial(partial, request)
        folder.begin(request.config)
        for name in (FINISHED, request.config.version, *channel_folders(request.config)):
            (partial / name).mkdir(parents=True, exist_ok=True)
        plans = scene_plans(request.config)
        left = [plan for plan in plans if read_scene(partial, plan.name) is None]
        samples = request.config.samples_per_scene
        done = (len(plans) - len(left)) * samples
        processes = helpers(request.processes, len(left), "scene", progress) if left else 1
        with progress.task("simulating", len(plans) * samples, "key frames", done) as task:
            if processes == 1:
                for plan in left:
                    _make_scene(partial, request.config, plan, task.advance)
            else:
                _make_scenes(partial, request.config, left, processes, task)
        counts = _write_tables(partial, request.config, plans)
        aside = folder.put_in_place(may_set_aside=request.force)
        if aside is not None:
            progress.warning(f"What was at {out} is now at {aside}.")
    return SimulateResult(out, request.config.version, *counts, time.monotonic() - started)


def _already_there(finished: SimulateResult, progress: Progress) -> SimulateResult:
    progress.message(f"{finished.root} already holds this simulated data set.")
    return finished


def _existing_result(out: Path, request: SimulateRequest, started: float) -> SimulateResult | None:
    """The finished data set at `out` if it is the one asked for; None if there is nothing.

    Raises:
        UsageError: there is something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    marker = read_marker(out)
    if marker is None:
        raise UsageError(
            f"{out} exists and is not a simulated data set of crkd: "
            "choose another folder, or move it aside with --force."
        )
    if marker["digest"] != request.config.digest():
        raise UsageError(
            f"{out} holds a simulated data set made with other settings ({_difference(marker, request.config)}): "
            "choose another folder, or replace it with --force."
        )
    counts = counts_of(marker)
    if counts is None:
        raise UsageError(
            f"{out} holds an unfinished simulated data set ({MARKER} has no numbers): choose another folder, or "
            "replace it with --force."
        )
    return SimulateResult(out, request.config.version, *counts, time.monotonic() - started)


def _difference(found: dict[str, Any], config: SimulationConfig) -> str:
    there = found.get("config", {})
    wanted = config.model_dump()
    names = [name for name, value in wanted.items() if there.get(name) != value]
    if not names:
        return "another version of the simulator"
    return ", ".join(f"{name} is {there.get(name)}, wanted {wanted[name]}" for name in names[:3])


def _check_partial(partial: Path, request: SimulateRequest) -> None:
    """Refuse to discard an unfinished run of another configuration."""
    marker = read_marker(partial)
    if marker is not None and marker["digest"] != request.config.digest() and not request.force:
        raise UsageError(
            f"{partial} is an unfinished simulation with other settings ({_difference(marker, request.config)}): "
            "finish it with its settings, choose another folder, or start anew with --force."
        )


def _make_scene(partial: Path, config: SimulationConfig, plan: ScenePlan, advance) -> None:
    """Make one scene and leave its records as the mark that it is finished."""
    with explain_write_errors(partial):
        records = simulate_scene(partial, config, plan, advance)
        write_scene(partial, plan.name, records)


def _make_scenes(partial: Path, config: SimulationConfig, plans: list[ScenePlan], processes: int, task: Task) -> None:
    """Make scenes in several processes; the first error stops them all."""
    ticks: SimpleQueue[int] = get_context("spawn").SimpleQueue()
    with workers(processes, _keep_ticks, ticks) as pool:
        waiting = set(pool.submit(_work, ((partial, config, plan) for plan in plans)))
        while waiting:
            ready, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            while not ticks.empty():
                task.advance(ticks.get())
            for future in ready:
                future.result()


_ticks: "SimpleQueue[int] | None" = None


def _keep_ticks(ticks: "SimpleQueue[int]") -> None:
    global _ticks
    _ticks = ticks


def _work(partial: Path, config: SimulationConfig, plan: ScenePlan) -> None:
    def advance() -> None:
        if _ticks is not None:
            _ticks.put(1)

    _make_scene(partial, config, plan, advance)


def _write_tables(partial: Path, config: SimulationConfig, plans: list[ScenePlan]) -> tuple[int, int, int]:
    """Join the records of all scenes to the 13 tables; returns the numbers of scenes, samples and annotations."""
    joined: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    joined |= fixed_tables(build_rig(config))
    for plan in plans:
        of_scene = read_scene(partial, plan.name, verify=False)
        if of_scene is None:
            raise DatasetError(f"the finished {plan.name} in {partial} is gone; run the same command again.")
        for name in TABLES:
            joined[name] += of_scene[name]
    for name, records in joined.items():
        write_text(partial / config.version / f"{name}.json", table_text(records))
    counts = (len(joined["scene"]), len(joined["sample"]), len(joined["sample_annotation"]))
    write_marker(partial, config, counts)
    return counts
