"""Memory of a training step with activations kept, and computed again in the backward pass (``train.recompute``).

On the CPU every case is a process of its own, in float32: the bytes of all storages that the forward pass keeps for
the backward pass, parameters and buffers apart, counted with torch's hooks on saved tensors; the peak memory of the
process over forward and backward pass, the libraries included (it also holds the one block that is computed again); and
CPU seconds. On a GPU: peak memory and milliseconds of a step in bfloat16. The last lines are ratios to everything kept.

    python examples/benchmarks/training_memory.py [--preset paper-r50] [--device cpu|cuda] [--batch 1] [--repeats 1]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.utils.checkpoint
from full_size_inference import fresh_detector, make_world, read_batch
from measuring import median_seconds, peak_mb, report, run_case, show
from torch import Tensor

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.loading import load_config
from crkd_core.config.schema import Config
from crkd_core.config.train import RecomputedPart
from crkd_core.data.samples import Batch
from crkd_core.datasets.simulated.config import WORLD_SIZES
from crkd_core.models.autocast import autocast
from crkd_core.training.recomputation import recompute
from crkd_core.training.steps import DetectionStep

VARIANTS: dict[str, tuple[RecomputedPart, ...]] = {
    "kept": (),
    "backbone": ("backbone",),
    "backbone+decoder": ("backbone", "decoder"),
    "all": ("backbone", "neck", "decoder", "head"),
}


def make_step(config: Config, role: str, variant: str) -> DetectionStep:
    """The detection step of a fresh detector, some parts of which compute their activations again."""
    detector = fresh_detector(config, role)
    recompute(detector, VARIANTS[variant])
    return DetectionStep(detector, getattr(config, role).head, config.data.grid.build()).train()


def total_of(step: DetectionStep, batch: Batch) -> Tensor:
    return torch.stack([term.float() for term in step(batch).values()]).sum()


def kept_gb(step: DetectionStep, batch: Batch) -> float:
    """What a forward pass keeps for the backward pass."""
    own = {tensor.untyped_storage().data_ptr() for tensor in step.state_dict().values()}
    stored: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            # The tensor too, so that its memory is not given to another.
            stored[storage.data_ptr()] = storage.nbytes(), tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total_of(step, batch)
    return sum(size for size, _ in stored.values()) / 1e9


def measure_cpu(role: str, variant: str, config: Config, batch: Batch, repeats: int) -> dict[str, float]:
    """GB kept and at the peak, and CPU seconds of forward and backward pass."""
    step = make_step(config, role, variant)
    torch.utils.checkpoint.checkpoint(torch.sin, torch.ones(1), use_reentrant=False)  # what it loads when first used
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        total_of(step, batch).backward()
        seconds.append(time.process_time() - began)
    peak = peak_mb() / 1e3
    return {"kept": kept_gb(step, batch), "peak": peak, "seconds": statistics.median(seconds)}


def measure_gpu(role: str, variant: str, config: Config, batch: Batch, repeats: int) -> dict[str, float]:
    """GB at the peak and milliseconds of a step in bfloat16, without the optimiser."""
    step, moved = make_step(config, role, variant).cuda(), batch.to("cuda")
    torch.cuda.reset_peak_memory_stats()

    def run() -> None:
        step.zero_grad(set_to_none=True)
        with autocast(torch.bfloat16, torch.device("cuda")):
            total = total_of(step, moved)
        total.backward()

    seconds = median_seconds(run, repeats, "cuda")
    return {"peak": torch.cuda.max_memory_allocated() / 1e9, "milliseconds": 1e3 * seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper-r50", help="configuration of the detectors")
    parser.add_argument("--size", choices=sorted(WORLD_SIZES), default="full", help="sensors of the simulated world")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--detectors", nargs="+", choices=("student", "teacher"), default=("student", "teacher"))
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS))
    parser.add_argument("--batch", type=int, default=1, help="samples")
    parser.add_argument("--repeats", type=int, default=1, help="timed steps; on a GPU after one that is not counted")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--world", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        config, (role, variant) = load_config(options.preset), options.case
        batch = read_batch(Workspace(options.world / "workspace"), config, role, options.batch)
        measure = measure_gpu if options.device == "cuda" else measure_cpu
        report(measure(role, variant, config, batch, options.repeats))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_world(Path(folder), options.size)
        passed_on = ["preset", "device", "batch", "repeats"]
        arguments = [part for name in passed_on for part in (f"--{name}", str(getattr(options, name)))]
        cases = [(role, variant) for role in options.detectors for variant in options.variants]
        values = {case: run_case(__file__, case, [*arguments, "--world", folder]) for case in cases}
    unit = "seconds" if options.device == "cpu" else "milliseconds"
    columns = {
        "kept": "kept (GB)",
        "peak": "peak (GB)",
        unit: f"step (CPU {unit})" if unit == "seconds" else "step (ms)",
    }
    columns = {name: title for name, title in columns.items() if name in next(iter(values.values()))}
    rows = [[", ".join(case), *(f"{of_case[name]:.2f}" for name in columns)] for case, of_case in values.items()]
    show(
        f"Training step of batch {options.batch}, {options.preset}, on {options.device}", ["", *columns.values()], rows
    )
    for (role, variant), of_case in values.items():
        base = values.get((role, "kept"))
        if base is not None and variant != "kept":
            ratios = ", ".join(f"{name} {of_case[name] / base[name]:.2f}" for name in columns)
            print(f"{role}, {variant}, ratio to kept: {ratios}")


if __name__ == "__main__":
    main()
