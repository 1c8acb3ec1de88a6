"""One case of :mod:`training_step`: the training steps of a batch, in whichever checkout this is started.

Only what every checkout since ce64e34 has is imported here, from where either has it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import cpu_seconds, report
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import crkd_core
from crkd_core.config.loading import load_config
from crkd_core.config.schema import Config
from crkd_core.data.samples import Batch
from crkd_core.distillation.objective import build_objective
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.sensors import CameraRig, SensorInputs
from crkd_core.models.detector import build_detector
from crkd_core.training.schedule import build_optimizer, clip_gradients
from crkd_core.training.steps import DetectionStep, DistillationStep

try:
    from crkd_core.models.autocast import use_channels_last
    from crkd_core.teacher_cache.sources import FrozenTeacher
except ImportError:  # as it was at ce64e34
    from crkd_core.training.loop import _channels_last as use_channels_last
    from crkd_core.training.steps import FrozenTeacher

BATCH_FILE = "batch.safetensors"
TEACHER, STUDENT, DISTILLED = "teacher", "student", "distilled student"
SENSORS = {TEACHER: ("images", "lidar"), STUDENT: ("images", "radar"), DISTILLED: ("images", "radar")}


def read_batch(file: Path, sensors: tuple[str, ...]) -> Batch:
    """The batch that the benchmark's own checkout loaded, with the sensors of one detector."""
    tensors = load_file(file)
    size = len(tensors["bev_augmentation"])

    def listed(name: str) -> list[Tensor]:
        return [tensors[f"{name}.{sample}"] for sample in range(size)]

    rig = CameraRig(*(tensors[name] for name in ("intrinsics", "lidar_from_camera", "image_augmentation")))
    clouds = {name: listed(name) if name in sensors else None for name in ("lidar", "radar")}
    inputs = SensorInputs(images=tensors["images"], rig=rig, bev_augmentation=tensors["bev_augmentation"], **clouds)
    boxes = [Boxes3D(rows) for rows in listed("boxes")]
    tokens = [str(sample) for sample in range(size)]
    return Batch(tokens, [0] * size, inputs, boxes, listed("labels"), None)


def build_step(role: str, config: Config, file: Path) -> nn.Module:
    """The step with seeded weights; that of distillation gets the targets of an untrained teacher, made once."""
    grid, student = config.data.grid.build(), config.student
    if role == STUDENT:
        student = student.model_copy(update={"radar": student.radar.model_copy(update={"calibration": False})})
    torch.manual_seed(0)
    if role == TEACHER:
        return DetectionStep(build_detector(config.teacher, config.data), config.teacher.head, grid)
    detector = build_detector(student, config.data)
    if role == STUDENT:
        return DetectionStep(detector, student.head, grid)
    objective = build_objective(config.distill, grid, detector.fused_channels, student, config.teacher)
    teacher = FrozenTeacher(build_detector(config.teacher, config.data), grid, config.distill)
    targets = teacher(read_batch(file, SENSORS[TEACHER]))
    return DistillationStep(detector, student.head, grid, objective, lambda _: targets)


def training_step(step: nn.Module, batch: Batch, config: Config, dtype: torch.dtype | None) -> Callable[[], Tensor]:
    """What a trainer does with every batch; returns the sum of the loss terms."""
    optimizer = build_optimizer(step, config.train.student, config.train)

    def run() -> Tensor:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            terms = step(batch)
        total = torch.stack([term.float() for term in terms.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        clip_gradients(step.parameters(), config.train.gradient_clip)
        optimizer.step()
        return total.detach()

    return run


def gradient_file(folder: Path, role: str, checkout: Path) -> Path:
    """Where the case of a checkout leaves loss and gradients of its first step."""
    return folder / f"{role} of {'_'.join(checkout.resolve().parts[1:])}.safetensors"


def measure(role: str, options: argparse.Namespace) -> float:
    """Median processor seconds of a step; the first one, which is not counted, writes its loss and gradients."""
    config, file = load_config(options.case), options.folder / BATCH_FILE
    step = build_step(role, config, file).train()
    use_channels_last(step)
    dtype = torch.bfloat16 if options.precision == "bf16" else None
    run = training_step(step, read_batch(file, SENSORS[role]), config, dtype)
    values = {"loss": run()}
    values |= {name: part.grad.contiguous() for name, part in step.named_parameters() if part.grad is not None}
    save_file(values, gradient_file(options.folder, role, Path(crkd_core.__file__).parents[1]))
    return cpu_seconds(run, options.repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", required=True, help="preset")
    parser.add_argument("--folder", type=Path, required=True, help="where the batch is, and the gradients go")
    parser.add_argument("--detectors", nargs="+", choices=sorted(SENSORS), required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    parser.add_argument("--repeats", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report({role: measure(role, options) for role in options.detectors})


if __name__ == "__main__":
    main()
