"""A whole detector on one sample of a simulated world: teacher and plain student of a preset, with fresh weights.

The world has nuScenes' sensors: six 1600 x 900 images, ten LiDAR sweeps, six sweeps of five radars. On a CPU each
detector runs once in a process of its own: seconds for the detector and for selecting its boxes, and the peak memory of
the process, the libraries included. On a GPU: latency and memory at batch 1 in float32, in bfloat16 and compiled, and
time and memory of a training step at several batch sizes.

    python examples/benchmarks/full_size_inference.py [--preset paper-r50] [--device cpu|cuda] [--repeats 1]
"""

import argparse
import tempfile
from pathlib import Path

import torch
from measuring import median_seconds, peak_mb, report, run_case, show

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.loading import load_config
from crkd_core.config.schema import Config
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.samples import Batch, collate
from crkd_core.datasets.prepared.source import open_prepared
from crkd_core.datasets.simulated.config import WORLD_SIZES, SimulationConfig
from crkd_core.models.autocast import autocast
from crkd_core.models.compiling import compile_dense_parts
from crkd_core.models.decode import decode_detections
from crkd_core.models.detector import Detector, build_detector
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import PrepareRequest, prepare
from crkd_core.stages.simulate import SimulateRequest, simulate
from crkd_core.training.steps import DetectionStep

GPU_MODES = {"fp32": (None, False), "bf16": (torch.bfloat16, False), "bf16 compiled": (torch.bfloat16, True)}


def make_world(folder: Path, size: str) -> Workspace:
    """A scene of two key frames, the second with all its sweeps, prepared."""
    changes = {"train_scenes": 0, "val_scenes": 1, "samples_per_scene": 2, "camera_sweeps_per_key_frame": 0}
    world, workspace = SimulationConfig(**{**WORLD_SIZES[size], **changes}), Workspace(folder / "workspace")
    simulate(SimulateRequest(folder / "world", world, processes=1), SilentProgress())
    prepare(PrepareRequest(folder / "world"), workspace, SilentProgress())
    return workspace


def read_batch(workspace: Workspace, config: Config, role: str, size: int = 1) -> Batch:
    """The last key frame with the sensors of one detector, as often as the batch is large."""
    modalities = getattr(config, role).modalities
    prepared = open_prepared(workspace, None, None, config.data, modalities, "the benchmark")
    token = prepared.tokens("val")[-1]
    return collate([SampleDataset(prepared, [token], config.data, modalities, bev=None, seed=0)[(0, 0)]] * size)


def fresh_detector(config: Config, role: str) -> Detector:
    torch.manual_seed(0)
    return build_detector(getattr(config, role), config.data)


def measure_cpu(role: str, config: Config, workspace: Workspace, repeats: int) -> dict[str, float]:
    """Seconds of detector and box selection, points, and peak memory (MB) of this process."""
    batch, detector = read_batch(workspace, config, role), fresh_detector(config, role).eval()
    grid, nms = config.data.grid.build(), getattr(config, role).head.nms
    with torch.inference_mode():
        detector_s = median_seconds(lambda: detector(batch.inputs), repeats)
        output = detector(batch.inputs)
        transform = batch.inputs.bev_augmentation
        boxes_s = median_seconds(lambda: decode_detections(output.head, grid, nms, transform), repeats)
    clouds = batch.inputs.lidar or batch.inputs.radar
    points = len(clouds[0]) if clouds else 0
    return {"detector": detector_s, "boxes": boxes_s, "points": float(points), "memory": peak_mb()}


def measure_gpu(role: str, mode: str, config: Config, workspace: Workspace, repeats: int) -> list[str]:
    """Latency (ms) and peak memory (GB) of one inference."""
    batch, detector = read_batch(workspace, config, role).to("cuda"), fresh_detector(config, role).cuda().eval()
    dtype, compiled = GPU_MODES[mode]
    if compiled:
        compile_dense_parts(detector)
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode(), autocast(dtype, torch.device("cuda")):
        seconds = median_seconds(lambda: detector(batch.inputs), repeats, "cuda")
    return [f"{role}, {mode}", f"{1e3 * seconds:.1f}", f"{torch.cuda.max_memory_allocated() / 1e9:.2f}"]


def measure_training(role: str, size: int, config: Config, workspace: Workspace, repeats: int) -> list[str]:
    """Time (ms) and peak memory (GB) of a training step in bfloat16, without the optimiser."""
    batch = read_batch(workspace, config, role, size).to("cuda")
    step = DetectionStep(fresh_detector(config, role), getattr(config, role).head, config.data.grid.build()).cuda()
    torch.cuda.reset_peak_memory_stats()

    def run() -> None:
        step.zero_grad(set_to_none=True)
        with autocast(torch.bfloat16, torch.device("cuda")):
            terms = step(batch)
        torch.stack([term.float() for term in terms.values()]).sum().backward()

    seconds = median_seconds(run, repeats, "cuda")
    return [f"{role}, batch {size}", f"{1e3 * seconds:.0f}", f"{torch.cuda.max_memory_allocated() / 1e9:.2f}"]


def on_cpu(options: argparse.Namespace, folder: Path) -> None:
    """Print the table of both detectors, each measured in its own process."""
    arguments = ["--preset", options.preset, "--repeats", str(options.repeats), "--world", str(folder)]
    rows = []
    for role in options.detectors:
        values = run_case(__file__, (role,), arguments)
        cells = (f"{values['detector']:.2f}", f"{values['boxes']:.3f}", f"{values['points']:.0f}")
        rows.append([role, *cells, f"{values['memory'] / 1e3:.2f}"])
    title = f"Inference of one sample on the CPU, {options.preset}, {torch.get_num_threads()} threads"
    show(title, ["detector", "detector (s)", "boxes (s)", "points", "peak memory (GB)"], rows)


def on_gpu(options: argparse.Namespace, folder: Path) -> None:
    """Print latency and training tables."""
    config, workspace = load_config(options.preset), Workspace(folder / "workspace")
    rows = [measure_gpu(r, m, config, workspace, options.repeats) for r in options.detectors for m in GPU_MODES]
    name = torch.cuda.get_device_name()
    show(f"Inference of one sample on {name}, {options.preset}", ["", "latency (ms)", "memory (GB)"], rows)
    sizes = (1, 2, 4, 8)
    rows = [measure_training(r, s, config, workspace, options.repeats) for r in options.detectors for s in sizes]
    show(f"Training step on {name}, {options.preset}, bf16", ["", "step (ms)", "memory (GB)"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper-r50", help="configuration of the detectors")
    parser.add_argument("--size", choices=sorted(WORLD_SIZES), default="full", help="sensors of the simulated world")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--detectors", nargs="+", choices=("student", "teacher"), default=("student", "teacher"))
    parser.add_argument("--repeats", type=int, default=1, help="timed runs, after one that is not counted")
    parser.add_argument("--case", nargs=1, help=argparse.SUPPRESS)
    parser.add_argument("--world", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        workspace = Workspace(options.world / "workspace")
        report(measure_cpu(options.case[0], load_config(options.preset), workspace, options.repeats))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_world(Path(folder), options.size)
        (on_gpu if options.device == "cuda" else on_cpu)(options, Path(folder))


if __name__ == "__main__":
    main()
