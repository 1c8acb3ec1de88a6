"""What the benchmarks share: medians over repeats, cases in processes of their own, other checkouts, and tables.

Nothing of ours is imported here: a case that runs in another checkout imports this file, and finds that checkout's.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table


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


def cpu_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median processor time of a call, all threads together, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
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


def run_case(
    script: str, case: Sequence[str], arguments: Sequence[str], checkout: Path | None = None
) -> dict[str, float]:
    """Run a script for one case in a process of its own, whose peak memory is then the case's, and read what it prints.

    Args:
        checkout: whose `crkd_core` the case imports, with one thread; None: the one this process imports.

    Raises:
        SystemExit: the case failed; with what it wrote to its error stream.
    """
    command = [sys.executable, script, "--case", *case, *arguments]
    environment = None
    if checkout is not None:
        environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with status {result.returncode}:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def report(values: dict[str, float]) -> None:
    """What :func:`run_case` reads."""
    print(json.dumps(values))


def add_against(parser: argparse.ArgumentParser) -> None:
    """The options of :func:`compare_checkouts`."""
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="folder of another checkout to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="runs of every checkout, one after the other in turns")


@dataclass(frozen=True)
class Comparison:
    """What the same cases report in this checkout and in another one: medians over rounds by name, lower is better."""

    here: Mapping[str, float]
    other: Mapping[str, float]

    def ratio(self, name: str) -> float:
        return self.here[name] / self.other[name]

    def show(self, title: str, unit: str, names: Sequence[str] | None = None, scale: float = 1.0) -> None:
        """Print both figures and their ratio by name, and the ratios once more on the last line.

        Args:
            names: which of the reported values; None: all of them.
            scale: from what was reported to the unit, such as 1000 for seconds in ms.
        """
        names = list(self.here) if names is None else names
        rows = [
            [name, f"{scale * self.other[name]:.4g}", f"{scale * self.here[name]:.4g}", f"{self.ratio(name):.3f}"]
            for name in names
        ]
        show(title, ["", f"other checkout ({unit})", f"this one ({unit})", "ratio"], rows)
        print("ratio: " + ", ".join(f"{name} {self.ratio(name):.3f}" for name in names))


def compare_checkouts(
    script: str, case: Sequence[str], arguments: Sequence[str], against: Path, rounds: int
) -> Comparison:
    """Run a case in this checkout and in another by the same interpreter, in turns, so that both meet the same machine.

    The case's code is this checkout's and imports the other's `crkd_core`: what moved since must be imported as either
    has it.

    Raises:
        SystemExit: the other checkout has no `crkd_core`; a case failed.
    """
    if not (against / "crkd_core").is_dir():
        raise SystemExit(f"{against} is no checkout of this project: it has no folder crkd_core")
    here = Path(__file__).resolve().parents[2]
    checkouts = (here, against)
    rounds_of_both = [[run_case(script, case, arguments, checkout) for checkout in checkouts] for _ in range(rounds)]
    medians = [
        {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for runs in zip(*rounds_of_both, strict=True)
    ]
    return Comparison(*medians)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others numbers."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(table)
