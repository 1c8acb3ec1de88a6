"""Stage ``simulate``: a simulated data set in the format of nuScenes or MAN TruckScenes."""

import time
from dataclasses import dataclass
from pathlib import Path

from crkd_core.artifacts.atomic import explain_write_errors
from crkd_core.artifacts.locks import locked
from crkd_core.cores import helpers
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.writer.existing import check_unfinished, existing_counts
from crkd_core.datasets.simulated.writer.making import make_scenes, write_tables
from crkd_core.datasets.simulated.writer.names import scene_plans
from crkd_core.datasets.simulated.writer.scene_records import channel_folders
from crkd_core.datasets.simulated.writer.world_folder import FINISHED, WorldFolder, read_scene
from crkd_core.errors import UsageError
from crkd_core.progress import Progress


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
    began = time.monotonic()
    out = request.out.absolute()
    if request.processes < 1:
        raise UsageError(f"processes is {request.processes}: at least 1 is needed.")
    folder = WorldFolder(out)
    counts = None if request.force else existing_counts(out, request.config)
    if counts is not None and folder.is_settled:
        return _already_there(out, request.config, counts, began, progress)
    partial = folder.partial
    with locked(partial), explain_write_errors(partial):
        is_completed = folder.settle() == request.config.digest()
        counts = existing_counts(out, request.config) if is_completed or not request.force else None
        if counts is not None:
            return _already_there(out, request.config, counts, began, progress)
        folder.check_in_way(may_set_aside=request.force)
        if not request.force:
            check_unfinished(partial, request.config)
        folder.begin(request.config)
        for name in (FINISHED, request.config.version, *channel_folders(request.config)):
            (partial / name).mkdir(parents=True, exist_ok=True)
        plans = scene_plans(request.config)
        left = [plan for plan in plans if read_scene(partial, plan.name) is None]
        samples = request.config.samples_per_scene
        done = (len(plans) - len(left)) * samples
        processes = helpers(request.processes, len(left), "scene", progress) if left else 1
        with progress.task("simulating", len(plans) * samples, "key frames", done) as task:
            make_scenes(partial, request.config, left, processes, task)
        counts = write_tables(partial, request.config, plans)
        aside = folder.put_in_place(may_set_aside=request.force)
        if aside is not None:
            progress.warning(f"What was at {out} is now at {aside}.")
    return SimulateResult(out, request.config.version, *counts, time.monotonic() - began)


def _already_there(
    out: Path, config: SimulationConfig, counts: tuple[int, int, int], began: float, progress: Progress
) -> SimulateResult:
    progress.message(f"{out} already holds this simulated data set.")
    return SimulateResult(out, config.version, *counts, time.monotonic() - began)
