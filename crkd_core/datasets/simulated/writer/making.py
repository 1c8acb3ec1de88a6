"""Making the scenes of a simulated data set, in one or several processes, and joining their records to tables."""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import explain_write_errors, write_text
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.rig import build_rig
from crkd_core.datasets.simulated.writer.formats import format_of
from crkd_core.datasets.simulated.writer.scene import simulate_scene
from crkd_core.datasets.simulated.writer.stage import ScenePlan
from crkd_core.datasets.simulated.writer.table_files import table_text
from crkd_core.datasets.simulated.writer.world_folder import read_scene, write_marker, write_scene
from crkd_core.errors import DatasetError
from crkd_core.progress import Task
from crkd_core.workers import workers


def make_scenes(partial: Path, config: SimulationConfig, plans: list[ScenePlan], processes: int, task: Task) -> None:
    """Make scenes and leave the records of each as the mark that it is finished.

    Raises:
        WriteError: the disk is full or does not take the files.
    """
    if processes > 1:
        _make_in_processes(partial, config, plans, processes, task)
        return
    for plan in plans:
        _make_scene(partial, config, plan, task.advance)


def _make_scene(partial: Path, config: SimulationConfig, plan: ScenePlan, advance: Callable[[], None]) -> None:
    """Make one scene and leave its records as the mark that it is finished."""
    with explain_write_errors(partial):
        records = simulate_scene(partial, config, plan, advance)
        write_scene(partial, plan.name, records)


def _make_in_processes(
    partial: Path, config: SimulationConfig, plans: list[ScenePlan], processes: int, task: Task
) -> None:
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


def write_tables(partial: Path, config: SimulationConfig, plans: list[ScenePlan]) -> tuple[int, int, int]:
    """Join the records of all scenes to the tables; returns the numbers of scenes, samples and annotations."""
    tables = format_of(config).tables
    joined: dict[str, list[dict[str, Any]]] = {name: [] for name in tables}
    joined |= format_of(config).fixed_tables(build_rig(config))
    for plan in plans:
        of_scene = read_scene(partial, plan.name, verify=False)
        if of_scene is None:
            raise DatasetError(f"the finished {plan.name} in {partial} is gone; run the same command again.")
        for name in tables:
            joined[name] += of_scene[name]
    for name, records in joined.items():
        write_text(partial / config.version / f"{name}.json", table_text(records))
    counts = (len(joined["scene"]), len(joined["sample"]), len(joined["sample_annotation"]))
    write_marker(partial, config, counts)
    return counts
