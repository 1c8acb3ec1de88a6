"""Stage: write a simulated data set in the nuScenes format."""

import json
import os
import shutil
import time
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import TEMPORARY_SUFFIX, explain_write_errors, write_text
from crkd_core.artifacts.workspace import LOCK_NAME, locked
from crkd_core.cores import helpers
from crkd_core.errors import UsageError
from crkd_core.progress import Progress, Task
from crkd_core.simulation.config import SimulationConfig
from crkd_core.simulation.names import scene_plans
from crkd_core.simulation.rig import build_rig
from crkd_core.simulation.scene import ScenePlan, channel_folders, simulate_scene
from crkd_core.simulation.tables import TABLES, fixed_tables, table_text
from crkd_core.stages.workers import workers

MARKER = "simulation.json"
_FINISHED = "finished-scenes"


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
    finished = _existing_result(out, request, started)
    if finished is not None:
        progress.message(f"{out} already holds this simulated data set.")
        return finished
    partial = out.with_name(out.name + ".partial")
    with explain_write_errors(partial):
        _check_partial(partial, request)
        partial.mkdir(parents=True, exist_ok=True)
    with locked(partial), explain_write_errors(partial):
        _prepare(partial, request)
        plans = scene_plans(request.config)
        left = [plan for plan in plans if not (partial / _FINISHED / f"{plan.name}.json").exists()]
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
        _put_in_place(partial, out, progress)
    return SimulateResult(out, request.config.version, *counts, time.monotonic() - started)


def _existing_result(out: Path, request: SimulateRequest, started: float) -> SimulateResult | None:
    """The finished data set at `out` if it is the one asked for; None if there is nothing or it may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    found = _read_marker(out)
    if request.force:
        return None
    if found is None:
        raise UsageError(
            f"{out} exists and is not a simulated data set of crkd: "
            "choose another folder, or move it aside with --force."
        )
    if found.get("digest") != request.config.digest():
        raise UsageError(
            f"{out} holds a simulated data set made with other settings ({_difference(found, request.config)}): "
            "choose another folder, or replace it with --force."
        )
    numbers = (int(found["scenes"]), int(found["samples"]), int(found["annotations"]))
    return SimulateResult(out, request.config.version, *numbers, time.monotonic() - started)


def _read_marker(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "digest" in found else None


def _difference(found: dict[str, Any], config: SimulationConfig) -> str:
    there = found.get("config", {})
    wanted = config.model_dump()
    names = [name for name, value in wanted.items() if there.get(name) != value]
    if not names:
        return "another version of the simulator"
    return ", ".join(f"{name} is {there.get(name)}, wanted {wanted[name]}" for name in names[:3])


def _marker_text(config: SimulationConfig, counts: tuple[int, int, int] | None = None) -> str:
    content: dict[str, Any] = {
        "made_by": "crkd simulate: simulated data, not recorded by any vehicle",
        "digest": config.digest(),
        "config": config.model_dump(),
    }
    if counts is not None:
        content |= dict(zip(("scenes", "samples", "annotations"), counts, strict=True))
    return json.dumps(content, indent=1) + "\n"


def _check_partial(partial: Path, request: SimulateRequest) -> None:
    """Refuse a folder in the way that is not an unfinished run of this configuration."""
    if not partial.exists() or (partial.is_dir() and not _contents(partial)):
        return
    found = _read_marker(partial)
    if found is None:
        raise UsageError(
            f"{partial} is in the way and is no unfinished simulation of crkd: move it or choose another folder."
        )
    if found["digest"] != request.config.digest() and not request.force:
        raise UsageError(
            f"{partial} is an unfinished simulation with other settings ({_difference(found, request.config)}): "
            "finish it with its settings, choose another folder, or start anew with --force."
        )


def _contents(partial: Path) -> list[Path]:
    """What is there, besides what a run leaves that was killed before it could say which it is."""
    return [path for path in partial.iterdir() if path.name != LOCK_NAME and path.suffix != TEMPORARY_SUFFIX]


def _prepare(partial: Path, request: SimulateRequest) -> None:
    """Make the folders; what an unfinished run of another configuration left is removed."""
    found = _read_marker(partial)
    if found is not None and found["digest"] != request.config.digest():
        for path in _contents(partial):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_text(partial / MARKER, _marker_text(request.config))
    for folder in (_FINISHED, request.config.version, *channel_folders(request.config)):
        (partial / folder).mkdir(parents=True, exist_ok=True)


def _make_scene(partial: Path, config: SimulationConfig, plan: ScenePlan, advance) -> None:
    """Make one scene and leave its records as the mark that it is finished."""
    with explain_write_errors(partial):
        records = simulate_scene(partial, config, plan, advance)
    write_text(partial / _FINISHED / f"{plan.name}.json", json.dumps(records))


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
        records = json.loads((partial / _FINISHED / f"{plan.name}.json").read_text())
        for name in TABLES:
            joined[name] += records[name]
    for name, records in joined.items():
        write_text(partial / config.version / f"{name}.json", table_text(records))
    counts = (len(joined["scene"]), len(joined["sample"]), len(joined["sample_annotation"]))
    write_text(partial / MARKER, _marker_text(config, counts))
    return counts


def _put_in_place(partial: Path, out: Path, progress: Progress) -> None:
    """Rename the complete folder to its place; what force replaces goes only now."""
    shutil.rmtree(partial / _FINISHED)
    (partial / LOCK_NAME).unlink(missing_ok=True)
    replaced = None
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        ours = _read_marker(out) is not None
        replaced = _free_name(out)
        os.rename(out, replaced)
        if not ours:
            progress.warning(f"What was at {out} is now at {replaced}.")
            replaced = None
    elif out.exists():
        out.rmdir()
    os.rename(partial, out)
    if replaced is not None:
        shutil.rmtree(replaced)


def _free_name(out: Path) -> Path:
    k = 1
    while (name := out.with_name(f"{out.name}.old-{k}")).exists():
        k += 1
    return name
