"""Reading training samples, six 1600 x 900 frames each: processor time a sample, and samples a second.

The world is simulated with nuScenes' sensors. Samples are read in random training views, as a student (camera and
radar) reads them: by the benchmark's process, and by loader processes, whose time includes passing batches on.
Normalising is left out where the checkout does it on the device. Samples a second are wall time and mean something only
where nothing else runs.

    python examples/benchmarks/loader.py [--preset paper-r50] [--decode fast] [--against CHECKOUT] [--world DIR]

`--against` reads the same views of the same world by another checkout, and compares the images: exact ones differ by at
most one grey level. `--world` takes a nuScenes-format data set instead, the real one for instance.
"""

import argparse
import resource
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from measuring import add_against, compare_checkouts, cpu_seconds, report, run_case, show
from numpy.typing import NDArray

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.data import ImageConfig
from crkd_core.config.loading import load_config
from crkd_core.data.augmentation import TEST_VIEW
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.loader import load_batches
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import PrepareRequest, prepare

try:
    from crkd_core.data.loader import LoaderOptions
    from crkd_core.datasets.prepared.source import open_prepared
except ImportError:  # a checkout before rooms were cut by their subject
    from crkd_core.stages.inputs import open_prepared

    LoaderOptions = int

HERE = Path(__file__).resolve().parents[2]
BATCH_SIZE = 4
WORKERS = (1, 2)
PROCESS = "the process itself"
COMPARED_VIEWS = 4


def make_world(folder: Path, size: str) -> Path:
    """A scene of two key frames, whose second has radar sweeps before it."""
    from crkd_core.datasets.simulated.config import WORLD_SIZES, SimulationConfig
    from crkd_core.stages.simulate import SimulateRequest, simulate

    changes = {"train_scenes": 1, "val_scenes": 0, "samples_per_scene": 2, "camera_sweeps_per_key_frame": 0}
    simulate(
        SimulateRequest(folder / "world", SimulationConfig(**{**WORLD_SIZES[size], **changes}), processes=1),
        SilentProgress(),
    )
    return folder / "world"


def read_dataset(preset: str, decode: str, world: Path, folder: Path) -> SampleDataset:
    """The training samples of a data set as a student reads them."""
    known = "decode" in ImageConfig.model_fields
    config, workspace = (
        load_config(preset, overrides=[f"data.image.decode={decode}"] if known else []),
        Workspace(folder),
    )
    prepare(PrepareRequest(world, allow_missing=frozenset({"radar", "sweeps"})), workspace, SilentProgress())
    modalities = ("camera", "radar")
    prepared = open_prepared(workspace, None, None, config.data, modalities, "the benchmark")
    return SampleDataset(
        prepared, prepared.tokens("train"), config.data, modalities, bev=config.data.augment_student, seed=0
    )


def grey_levels(images: torch.Tensor, dataset: SampleDataset) -> NDArray[np.uint8]:
    """Images as the loader gives them, without the normalisation that older checkouts have in it."""
    if images.dtype == torch.uint8:
        return images.numpy()
    image = dataset.data.image
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (image.mean, image.std))
    return ((images * deviation + mean) * 255).round().byte().numpy()


def loader_seconds(dataset: SampleDataset, keys: list[tuple[int, int]], workers: int) -> tuple[float, float]:
    """Processor and wall time of reading samples by loader processes, this process's share included."""
    batches = [keys[i : i + BATCH_SIZE] for i in range(0, len(keys), BATCH_SIZE)]
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    began, before = time.perf_counter(), [resource.getrusage(kind) for kind in kinds]
    for _ in load_batches(dataset, batches, LoaderOptions(workers), torch.device("cpu")):
        pass
    wall, after = time.perf_counter() - began, [resource.getrusage(kind) for kind in kinds]
    used = sum(
        late.ru_utime + late.ru_stime - early.ru_utime - early.ru_stime
        for early, late in zip(before, after, strict=True)
    )
    return used, wall


def time_loading(dataset: SampleDataset, views: int) -> dict[str, float]:
    """Processor seconds a sample, and samples a second."""
    keys = list(product(range(len(dataset)), range(views)))
    remaining = iter([keys[0], *keys])
    values = {PROCESS: cpu_seconds(lambda: dataset[next(remaining)], len(keys))}
    for workers in WORKERS:
        # What it takes to start them and to read the tables is not a sample's.
        few, more = keys[:1] * BATCH_SIZE * workers, keys * 2
        start, end = loader_seconds(dataset, few, workers), loader_seconds(dataset, few + more, workers)
        samples = len(more)
        values[_loaders(workers)] = (end[0] - start[0]) / samples
        values[f"samples/s, {workers}"] = samples / (end[1] - start[1])
    return values


def write_images(dataset: SampleDataset, path: Path) -> dict[str, float]:
    """The images of every sample's test view and of some training views, in a file."""
    views = [TEST_VIEW, *range(COMPARED_VIEWS)]
    np.savez(path, *(grey_levels(dataset[key].images, dataset) for key in product(range(len(dataset)), views)))
    return {}


def run(case: list[str], options: argparse.Namespace) -> dict[str, float]:
    """One case in the checkout that is imported."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = read_dataset(options.preset, options.decode, options.world, Path(folder))
        return write_images(dataset, Path(case[1])) if case[0] == "images" else time_loading(dataset, options.repeats)


def compare(options: argparse.Namespace, arguments: list[str], folder: Path) -> None:
    """Print how far apart the images of both checkouts are, and times and ratios."""
    files = {"here.npz": HERE, "other.npz": options.against}
    for name, checkout in files.items():
        run_case(__file__, ("images", str(folder / name)), arguments, checkout)
    here, other = (np.load(folder / name) for name in files)
    apart = np.concatenate([np.abs(here[name].astype(int) - other[name]).ravel() for name in here.files])
    print(
        f"images: at most {apart.max()} grey levels apart, {apart.mean():.4f} on average; {(apart > 0).mean():.2%} of "
        "the values differ"
    )
    result = compare_checkouts(__file__, ("time",), arguments, options.against, options.rounds)
    rows = [[str(w), *(f"{side[f'samples/s, {w}']:.1f}" for side in (result.other, result.here))] for w in WORKERS]
    show("samples a second (wall time)", ["loader processes", "other checkout", "this one"], rows)
    title = f"CPU time of loading a sample, {options.preset}, decode {options.decode}"
    result.show(title, "ms", [PROCESS, *map(_loaders, WORKERS)], scale=1e3)


def _loaders(workers: int) -> str:
    return f"{workers} loader process{'es' if workers > 1 else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper-r50", help="configuration of the images")
    parser.add_argument(
        "--decode", choices=("exact", "fast"), default="exact", help="data.image.decode, if it is known"
    )
    parser.add_argument("--size", choices=("full", "small", "tiny"), default="full", help="sensors of the world")
    parser.add_argument("--repeats", type=int, default=16, help="training views of each sample")
    parser.add_argument("--world", type=Path, help="a nuScenes-format data set in place of a simulated one")
    add_against(parser)
    parser.add_argument("--case", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        report(run(options.case, options))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = options.world or make_world(folder, options.size)
        arguments = ["--preset", options.preset, "--decode", options.decode, "--repeats", str(options.repeats)]
        arguments += ["--world", str(world)]
        if options.against is not None:
            compare(options, arguments, folder)
            return
        values = run_case(__file__, ("time",), arguments)
        rows = [[PROCESS, f"{1e3 * values[PROCESS]:.1f}", ""]]
        rows += [[_loaders(w), f"{1e3 * values[_loaders(w)]:.1f}", f"{values[f'samples/s, {w}']:.1f}"] for w in WORKERS]
        show(f"Loading a sample, {options.preset}, decode {options.decode}", ["", "CPU time (ms)", "samples/s"], rows)


if __name__ == "__main__":
    main()
