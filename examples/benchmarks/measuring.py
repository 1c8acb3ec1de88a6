"""What the benchmarks share: medians over repeats, peak memory of a process of its own, sensors, and tables."""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from crkd_core.config.classes import CAMERA_CHANNELS, LIDAR_CHANNEL
from crkd_core.config.data import DataConfig
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.rig import build_rig
from crkd_core.geometry.sensors import CameraRig


def fastest_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Wall time of the fastest of some calls, for what takes milliseconds: whatever else runs only ever adds to it."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def median_seconds(run: Callable[[], Any], repeats: int, device: str = "cpu") -> float:
    """Median wall time of a call, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def peak_mb() -> float:
    """Most memory that this process has had so far, in MB (10^6 bytes)."""
    # On Linux a child's resource usage begins with what its parent had when it was started; this does not.
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def run_case(script: str, case: Sequence[str], arguments: Sequence[str]) -> dict[str, float]:
    """Run a script for one case in a process of its own, whose peak memory is then the case's, and read what it prints.

    Raises:
        SystemExit: the case failed; with what it wrote to its error stream.
    """
    command = [sys.executable, script, "--case", *case, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with status {result.returncode}:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def report(values: dict[str, float]) -> None:
    """What :func:`run_case` reads."""
    print(json.dumps(values))


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others numbers."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(table)


def surround_rig(data: DataConfig) -> CameraRig:
    """The six cameras of the simulated car for one sample, images resized and cropped as at test time."""
    rig = build_rig(SimulationConfig())
    lidar_from_ego = torch.linalg.inv(torch.tensor(rig[LIDAR_CHANNEL].ego_from_sensor))
    cameras = [rig[channel] for channel in CAMERA_CHANNELS]
    width, height = (round(side * data.image.test_resize) for side in (1600, 900))
    augmentation = torch.eye(4)
    augmentation[0, 0] = augmentation[1, 1] = data.image.test_resize
    augmentation[:2, 3] = torch.tensor([-(width - data.image.width_px) / 2, float(data.image.height_px - height)])
    return CameraRig(
        intrinsics=torch.tensor([camera.intrinsic for camera in cameras])[None],
        lidar_from_camera=torch.stack(
            [(lidar_from_ego @ torch.tensor(camera.ego_from_sensor)).float() for camera in cameras]
        )[None],
        image_augmentation=augmentation.repeat(1, len(cameras), 1, 1),
    )
