"""The training step on a CPU, one thread: teacher, plain student, and student with all distillation losses.

A batch of a simulated world, loaded once as in training: augmented views with their images, LiDAR and radar points.
Processor time of forward pass, backward pass, gradient clipping and optimiser, as medians over repeats. Weights are
seeded, stored targets are those of an untrained teacher. With ``--against`` the same steps run in another checkout in
turns with this one, which must have the same losses and gradients to rounding, and the ratios are on the last line.

    python examples/benchmarks/training_step.py [--preset tiny] [--batch 2] [--precision fp32] [--against CHECKOUT]
"""

import argparse
import tempfile
from pathlib import Path

from measuring import add_against, compare_checkouts, run_case, show
from safetensors.torch import load_file, save_file
from torch import Tensor
from training_step_case import BATCH_FILE, SENSORS, gradient_file

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.loading import load_config
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.samples import collate
from crkd_core.datasets.prepared.source import open_prepared
from crkd_core.datasets.simulated.config import WORLD_SIZES, SimulationConfig
from crkd_core.models.camera import Normalisation
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import PrepareRequest, prepare
from crkd_core.stages.simulate import SimulateRequest, simulate

CASE = str(Path(__file__).with_name("training_step_case.py"))
HERE = Path(__file__).resolve().parents[2]
SAMPLES_A_SCENE = 3


def write_batch(folder: Path, preset: str, size: int) -> None:
    """The last key frames, which have all their sweeps, of as many scenes as the batch has samples."""
    config, workspace, silent = load_config(preset), Workspace(folder / "workspace"), SilentProgress()
    changes = {"train_scenes": size, "val_scenes": 0, "samples_per_scene": SAMPLES_A_SCENE}
    world = WORLD_SIZES[preset if preset in WORLD_SIZES else "full"]
    world = {**world, **changes, "camera_sweeps_per_key_frame": 0}
    simulate(SimulateRequest(folder / "world", SimulationConfig(**world), processes=1), silent)
    prepare(PrepareRequest(folder / "world"), workspace, silent)
    modalities = ("camera", "lidar", "radar")
    prepared = open_prepared(workspace, None, None, config.data, modalities, "the benchmark")
    tokens = prepared.tokens("train")[SAMPLES_A_SCENE - 1 :: SAMPLES_A_SCENE]
    samples = SampleDataset(prepared, tokens, config.data, modalities, bev=config.data.augment_teacher, seed=0)
    batch = collate([samples[(sample, 0)] for sample in range(size)])
    inputs = batch.inputs
    lists = {
        "lidar": inputs.lidar,
        "radar": inputs.radar,
        "boxes": [boxes.tensor for boxes in batch.boxes],
        "labels": batch.labels,
    }
    tensors = {f"{name}.{sample}": part for name, parts in lists.items() for sample, part in enumerate(parts)}
    # As ce64e34 loads them, in floats, which a later camera branch leaves as they are.
    images = Normalisation(config.data.image.mean, config.data.image.std)(inputs.images)
    tensors |= {"images": images, "bev_augmentation": inputs.bev_augmentation, **vars(inputs.rig)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / BATCH_FILE)


def deviation(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The norm of the difference of all values together, as a share of their norm.

    Not tensor by tensor: gradients that are zero but for rounding, such as those of biases before a batch norm, differ
    by as much as they are.

    Raises:
        SystemExit: the tensors have other names.
    """
    if set(actual) != set(expected):
        raise SystemExit(f"only one checkout has gradients of {', '.join(sorted(set(actual) ^ set(expected)))}")
    difference = sum(float((actual[name] - expected[name]).double().square().sum()) for name in actual)
    return (difference / sum(float(tensor.double().square().sum()) for tensor in expected.values())) ** 0.5


def show_deviations(folder: Path, detectors: list[str], against: Path) -> None:
    """Print how far losses and gradients of the first step are from the other checkout's."""
    rows = []
    for role in detectors:
        actual, expected = (load_file(gradient_file(folder, role, checkout)) for checkout in (HERE, against))
        losses = [{"loss": values.pop("loss")} for values in (actual, expected)]
        deviations = (deviation(*losses), deviation(actual, expected))
        rows.append([role, f"{losses[0]['loss']:.4f}", *(f"{value:.1e}" for value in deviations)])
    show("Relative deviation from the other checkout", ["", "loss", "of the loss", "of the gradient"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny", help="configuration of the detectors")
    parser.add_argument("--detectors", nargs="+", choices=tuple(SENSORS), default=tuple(SENSORS))
    parser.add_argument("--batch", type=int, default=2, help="samples of a step")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="type to compute in")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps, after one that is not counted")
    add_against(parser)
    options = parser.parse_args()
    arguments = ["--precision", options.precision, "--repeats", str(options.repeats)]
    arguments += ["--detectors", *options.detectors]
    title = f"Training step of {options.preset}, batch {options.batch}, {options.precision}, one thread, processor time"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_batch(folder, options.preset, options.batch)
        arguments += ["--folder", name]
        if options.against is None:
            seconds = run_case(CASE, (options.preset,), arguments, HERE)
            show(title, ["detector", "step (ms)"], [[role, f"{1e3 * value:.0f}"] for role, value in seconds.items()])
            return
        comparison = compare_checkouts(CASE, (options.preset,), arguments, options.against, options.rounds)
        show_deviations(folder, options.detectors, options.against)
        comparison.show(title, "ms", scale=1000)


if __name__ == "__main__":
    main()
