"""`crkd prepare` at the size of nuScenes' v1.0-trainval: CPU time and memory, against another checkout and the devkit.

Tables and sensor files are made up, in the layout and numbers of the real ones (see trainval_world.py); all of it takes
5 GB of disk and is removed in the end. Each program runs in a process of its own with one thread. What is prepared
is compared file by file.

    python examples/benchmarks/trainval_tables.py [--scale 1.0] [--against CHECKOUT] [--devkit] [--processes 1]
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measuring import peak_mb, report, run_case, show
from trainval_world import VERSION, write_trainval

_ROOT = Path(__file__).resolve().parents[2]
# Writes the peak memory where the run ends: what the system tells of a child begins with its parent's.
_PREPARE = """
import pathlib, runpy, sys
sys.argv = ["crkd", *sys.argv[2:]]
try:
    runpy.run_module("crkd_cli", run_name="__main__")
finally:
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        pathlib.Path({memory!r}).write_text(status.read_text())
"""


@dataclass(frozen=True)
class _Run:
    """What one program needed: CPU seconds, MB."""

    seconds: float
    memory_mb: float


def measure_prepare(world: Path, checkout: Path, processes: int, digests: dict[str, str]) -> _Run:
    """Prepare with the code of a checkout; `digests` gets those of the files, but for the manifest's times."""
    with tempfile.TemporaryDirectory(prefix="crkd-prepared-", dir=world) as scratch:
        memory = Path(scratch) / "memory"
        command = [sys.executable, "-c", _PREPARE.format(memory=str(memory)), "", "prepare", "--quiet"]
        command += ["--nuscenes", str(world), "--workspace", f"{scratch}/ws", "--processes", str(processes)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": _path_of(checkout)}
        with (Path(scratch) / "log").open("w+") as log:
            # Modules of the current folder would come before those of the checkout.
            child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=scratch)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                log.seek(0)
                raise SystemExit(f"{checkout}: crkd prepare failed with status {child.returncode}:\n{log.read()}")
        folder = Path(scratch) / "ws" / "prepare" / VERSION
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "manifest.json":
                digests[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        peak_kb = usage.ru_maxrss
        if memory.exists():
            line = next(line for line in memory.read_text().splitlines() if line.startswith("VmHWM:"))
            peak_kb = int(line.split()[1])
    return _Run(usage.ru_utime + usage.ru_stime, peak_kb * 1024 / 1e6)


def _path_of(checkout: Path) -> str:
    """Modules of a checkout before those that are found already, and not those of this one."""
    others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and Path(part) != _ROOT]
    return os.pathsep.join([str(checkout), *others])


def measure_devkit(world: Path) -> dict[str, float]:
    """Have the nuScenes devkit read and index the tables, as every program that uses it does first."""
    from nuscenes import NuScenes

    before = os.times()
    NuScenes(version=VERSION, dataroot=str(world), verbose=False)
    after = os.times()
    return {"seconds": after.user + after.system - before.user - before.system, "memory": peak_mb()}


def compare(world: Path, options: argparse.Namespace) -> None:
    """Print the table of all programs, and the ratio on the last line."""
    counts = run_case(__file__, ("data", str(world)), ["--scale", str(options.scale)])
    digests, other_digests = dict[str, str](), dict[str, str]()
    runs, said = {}, [", ".join(f"{count:.0f} {name}" for name, count in counts.items())]
    if options.against:
        runs["against"] = measure_prepare(world, options.against.resolve(), options.processes, other_digests)
    runs["prepare"] = measure_prepare(world, _ROOT, options.processes, digests)
    if options.devkit:
        values = run_case(__file__, ("devkit", str(world)), [])
        runs["devkit, tables only"] = _Run(values["seconds"], values["memory"])
    rows = [[name, f"{run.seconds:.1f}", f"{run.memory_mb:.0f}"] for name, run in runs.items()]
    new = runs.pop("prepare")
    ratios = {name: (new.seconds / run.seconds, new.memory_mb / run.memory_mb) for name, run in runs.items()}
    rows += [[f"ratio, {name}", f"{seconds:.2f}", f"{memory:.2f}"] for name, (seconds, memory) in ratios.items()]
    show(f"crkd prepare, {options.processes} processes", ["", "CPU (s)", "peak memory (MB)"], rows)
    if options.against:
        different = [name for name in digests | other_digests if digests.get(name) != other_digests.get(name)]
        said.append(f"{len(digests)} prepared files, of which {len(different)} differ {different[:3] or ''}")
    print("\n".join(said))
    parts = [
        f"{name} {seconds:.2f} of the time, {memory:.2f} of the memory" for name, (seconds, memory) in ratios.items()
    ]
    print(f"ratio: {'; '.join(parts) or 'nothing to compare with'} ({new.seconds:.1f} s, {new.memory_mb:.0f} MB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the 850 scenes")
    parser.add_argument("--against", type=Path, help="another checkout of crkd")
    parser.add_argument("--devkit", action="store_true", help="load the tables with the nuScenes devkit, too")
    parser.add_argument("--processes", type=int, default=1, help="worker processes of prepare")
    parser.add_argument("--repeats", type=int, default=1, help="as for the other benchmarks; one run is long enough")
    parser.add_argument("--folder", type=Path, help="where to make the data set; a temporary folder")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        name, folder = options.case
        if name == "data":
            report({key: float(value) for key, value in write_trainval(Path(folder), options.scale).items()})
        else:
            report(measure_devkit(Path(folder)))
        return
    world = Path(tempfile.mkdtemp(prefix="crkd-trainval-", dir=options.folder))
    try:
        compare(world, options)
    finally:
        shutil.rmtree(world)


if __name__ == "__main__":
    main()
