"""What distilling from the cache saves: the training step against the live teacher, and the loader without LiDAR.

For every preset a simulated scene with its sensors (nuScenes' own for the paper's presets), a teacher and its targets.
The teacher has fresh weights, and heatmaps scaled so that about as many cells count as objects as with a trained one.
Then one distillation step (forward, backward, optimiser) with the cached targets and with the live teacher, each in a
process of its own: wall time and the peak memory of the process above that of the loaded libraries (on a GPU: of the
GPU). Loading is the CPU time of one sample with everything that its step needs: images, radar points and stored
targets, or images, radar and LiDAR points. Times are medians over repeats, after one that is not counted.

    python examples/benchmarks/distillation_cost.py [--preset tiny paper-r50] [--device cpu|cuda] [--repeats 2]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from measuring import median_seconds, peak_mb, report, run_case, show

from crkd_core.artifacts.shards import TensorShards
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.loading import load_config
from crkd_core.config.schema import Config
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.samples import Batch, collate
from crkd_core.datasets.prepared.source import open_prepared
from crkd_core.datasets.simulated.config import WORLD_SIZES, SimulationConfig
from crkd_core.distillation.objective import build_objective
from crkd_core.models.autocast import autocast, autocast_type
from crkd_core.models.detector import Detector, build_detector
from crkd_core.progress import SilentProgress
from crkd_core.stages.extract_teacher import ExtractRequest, extract_teacher
from crkd_core.stages.prepare import PrepareRequest, prepare
from crkd_core.stages.simulate import SimulateRequest, simulate
from crkd_core.teacher_cache.sources import FrozenTeacher, StoredTargets
from crkd_core.training.schedule import build_optimizer
from crkd_core.training.steps import DistillationStep
from crkd_core.training.trained import load_trained, write_trained

PRESETS = ("tiny", "paper-r50")
LOADS_A_REPEAT = 5
CACHE, LIVE = "cache", "live teacher"
LOGIT_MEAN, LOGIT_DEVIATION = -7.0, 2.0
SCENE = {"train_scenes": 1, "val_scenes": 0, "samples_per_scene": 2, "camera_sweeps_per_key_frame": 0}


def configuration(preset: str) -> Config:
    """The preset with one stored view, and every sample loaded in this process."""
    return load_config(preset, None, ["distill.targets.views=1", "train.workers=0", "train.distill.batch_size=1"])


def make_world(folder: Path, preset: str, device: str) -> None:
    """A prepared scene of two key frames (the second has all its sweeps), a teacher and its targets."""
    config, workspace, silent = configuration(preset), Workspace(folder / "workspace"), SilentProgress()
    size = preset if preset in WORLD_SIZES else "full"
    world = SimulationConfig(**{**WORLD_SIZES[size], **SCENE})
    simulate(SimulateRequest(folder / "world", world, processes=1), silent)
    prepare(PrepareRequest(folder / "world"), workspace, silent)
    settings = {"role": "teacher", "detector": config.teacher.model_dump(mode="json")}
    torch.manual_seed(0)
    teacher = build_detector(config.teacher, config.data).eval()
    spread_heatmaps(teacher, collate([open_samples(config, workspace, LIVE)[(1, 0)]]))
    with workspace.write(ArtifactRequest("train-teacher", "teacher", command="", settings=settings)) as writer:
        write_trained(writer.path, teacher.state_dict(), config)
        writer.finish()
    extract_teacher(ExtractRequest(config, device=device), workspace, silent)


@torch.no_grad()
def spread_heatmaps(teacher: Detector, batch: Batch) -> None:
    """Scale the heatmap layers so that the logits of this batch have mean -7 and deviation 2: one cell in a hundred
    is then above the 0.1 from which boxes are compared."""
    for output, task in zip(teacher(batch.inputs).head.tasks, teacher.head.tasks, strict=True):
        last = task.maps["heatmap_logits"][-1]
        raw = output.heatmap_logits - last.bias[:, None, None]
        last.weight *= LOGIT_DEVIATION / raw.std()
        last.bias.copy_(LOGIT_MEAN - raw.mean((0, 2, 3)) * LOGIT_DEVIATION / raw.std())


def open_samples(config: Config, workspace: Workspace, source: str) -> SampleDataset:
    """The scene as the cached or the live step loads it."""
    modalities = config.student.modalities if source == CACHE else (*config.student.modalities, "lidar")
    prepared = open_prepared(workspace, None, None, config.data, modalities, "the benchmark")
    targets = None
    if source == CACHE:
        artifact = workspace.find("extract-teacher", needed_for="the benchmark", make="crkd extract-teacher")
        targets = TensorShards(artifact)
    return SampleDataset(
        prepared,
        prepared.tokens("train"),
        config.data,
        modalities,
        bev=config.data.augment_student,
        seed=config.distill.targets.seed,
        targets=targets,
    )


def measure(source: str, config: Config, workspace: Workspace, device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds of loading and of one optimiser step at batch 1, and peak memory above that of the libraries (MB)."""
    libraries, grid = peak_mb(), config.data.grid.build()
    samples = open_samples(config, workspace, source)
    loading = loading_seconds(samples, repeats)
    batch = collate([samples[(1, 0)]]).to(device)
    student = build_detector(config.student, config.data)
    objective = build_objective(config.distill, grid, student.fused_channels, config.student, config.teacher)
    teacher = workspace.find("train-teacher", needed_for="the benchmark", make="crkd train-teacher")
    targets = (
        StoredTargets(device)
        if source == CACHE
        else FrozenTeacher(load_trained(teacher, device).detector, grid, config.distill)
    )
    step = DistillationStep(student, config.student.head, grid, objective, targets).to(device).train()
    optimizer = build_optimizer(step, config.train.distill, config.train)
    dtype = autocast_type(config.train.precision, device)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(dtype, device):
            terms = step(batch)
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        optimizer.step()

    seconds = median_seconds(run, repeats, device.type)
    memory = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else peak_mb() - libraries
    return {"loading": loading, "step": seconds, "memory": memory}


def loading_seconds(samples: SampleDataset, repeats: int) -> float:
    """CPU seconds of loading one sample, in one thread, from files that the system has cached."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for _ in range(LOADS_A_REPEAT * repeats + 1):
        began = time.process_time()
        samples[(1, 0)]
        times.append(time.process_time() - began)
    torch.set_num_threads(threads)
    return statistics.median(times[1:])


def compare(preset: str, options: argparse.Namespace, folder: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of both tables for one preset: the cache, the live teacher, and what the cache saves."""
    make_world(folder, preset, options.device)
    arguments = ["--device", options.device, "--repeats", str(options.repeats), "--world", str(folder)]
    cache, live = (run_case(__file__, (source, preset), arguments) for source in (CACHE, LIVE))
    steps, loads = [], []
    for source, sensors, measured in ((CACHE, "without LiDAR", cache), (LIVE, "with LiDAR", live)):
        steps.append([f"{preset}, {source}", f"{measured['step']:.3f}", f"{measured['memory']:.0f}"])
        loads.append([f"{preset}, {sensors}", f"{1e3 * measured['loading']:.1f}"])
    ratio = {value: f"{live[value] / cache[value]:.2f}x" for value in cache}
    title = f"{preset}, ratio"
    return [*steps, [title, ratio["step"], ratio["memory"]]], [*loads, [title, ratio["loading"]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=PRESETS, help="configurations to measure")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=2, help="timed runs, after one that is not counted")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--world", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        source, preset = options.case
        workspace, device = Workspace(options.world / "workspace"), torch.device(options.device)
        report(measure(source, configuration(preset), workspace, device, options.repeats))
        return
    steps, loads = [], []
    for preset in options.preset:
        with tempfile.TemporaryDirectory() as folder:
            more_steps, more_loads = compare(preset, options, Path(folder))
        steps, loads = [*steps, *more_steps], [*loads, *more_loads]
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"the CPU, {torch.get_num_threads()} threads"
    show(f"Distillation step at batch 1 on {where}", ["", "step (s)", "peak memory (MB)"], steps)
    show("Loading one sample", ["", "CPU time (ms)"], loads)


if __name__ == "__main__":
    main()
