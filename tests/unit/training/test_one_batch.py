"""Accumulated batches and several processes: the gradients of one batch of all their samples."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from crkd_core.config.distill import DistillConfig, RelDConfig
from crkd_core.config.models import HeadConfig, RadarBranchConfig
from crkd_core.data.samples import Batch
from crkd_core.distillation.losses import build_targets
from crkd_core.distillation.objective import build_objective
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.sensors import CameraRig, SensorInputs
from crkd_core.models.detector import build_detector
from crkd_core.training.accumulation import BatchShares
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.recomputation import recompute
from crkd_core.training.steps import DetectionStep, DistillationStep
from crkd_core.training.synchronised_norm import synchronise_norms
from tests.support.ranks import on_ranks
from tests.support.tiny_detector import TINY_DATA, tiny_config, tiny_inputs

ALONE = ProcessGroup(0, 1, torch.device("cpu"))
GRID, HEAD = TINY_DATA.grid.build(), HeadConfig(shared_channels=8)
DISTILL = DistillConfig(reld=RelDConfig(scales=(4, 2)))
STUDENT = tiny_config(("camera", "radar"), radar=RadarBranchConfig(channels=(8, 8), calibration=True))


def batch_of(samples: range, empty_last: bool = False) -> Batch:
    """Some of four samples with unequally many objects, the second with none; the last may have no points."""
    inputs = tiny_inputs(batch=4, empty_sample=empty_last)
    chosen = list(samples)
    rig = CameraRig(*(getattr(inputs.rig, name)[chosen] for name in vars(inputs.rig)))
    generator, boxes, labels = torch.Generator().manual_seed(2), [], []
    for count in (5, 0, 1, 3):
        tensor = torch.rand((count, 9), generator=generator)
        tensor[:, :2] = (tensor[:, :2] - 0.5) * 8
        tensor[:, 3:6] = tensor[:, 3:6] * 2 + 0.5
        tensor[:, 6] *= 2 * math.pi
        boxes.append(Boxes3D(tensor))
        labels.append(torch.randint(0, 10, (count,), generator=generator))
    part = SensorInputs(
        inputs.images[chosen],
        rig,
        [inputs.lidar[index] for index in chosen],
        [inputs.radar[index] for index in chosen],
        inputs.bev_augmentation[chosen],
    )
    names = [str(index) for index in chosen]
    return Batch(names, [0] * len(chosen), part, [boxes[i] for i in chosen], [labels[i] for i in chosen], None)


def teacher_targets(batch: Batch):
    torch.manual_seed(9)
    teacher = build_detector(tiny_config(("camera", "lidar")), TINY_DATA).eval()
    with torch.no_grad():
        return build_targets(teacher(batch.inputs), batch.boxes, GRID, DISTILL)


def make_step(kind: str) -> nn.Module:
    torch.manual_seed(3)
    if kind == "teacher":
        return DetectionStep(build_detector(tiny_config(("camera", "lidar")), TINY_DATA), HEAD, GRID)
    student = build_detector(STUDENT, TINY_DATA)
    objective = build_objective(DISTILL, GRID, student.fused_channels)
    return DistillationStep(student, HEAD, GRID, objective, teacher_targets)


def gradients(step: nn.Module, shares: BatchShares, batches: list[Batch]) -> dict[str, torch.Tensor]:
    """Gradients, sums of the terms and statistics after one step of several batches."""
    sums: dict[str, torch.Tensor] = {}
    for _, terms in shares.terms(batches, 0.0):
        torch.stack([*terms.values()]).sum().backward()
        for name, term in terms.items():
            sums[f"term {name}"] = sums.get(f"term {name}", 0.0) + term.detach()
    values = {name: parameter.grad for name, parameter in step.named_parameters() if parameter.grad is not None}
    return {**values, **sums, **dict(step.named_buffers())}


def check_close(results: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Equal to rounding, against the size of a whole tensor: single numbers may be small differences of large ones.

    Batch norms amplify rounding; biases before them have no gradient but rounding.
    """
    assert results.keys() >= expected.keys()
    for name, value in expected.items():
        difference = float((results[name].double() - value.double()).norm())
        assert difference <= 3e-2 * float(value.double().norm()) + 1e-4, name


@pytest.mark.parametrize("kind", ["teacher", "student"])
@pytest.mark.parametrize("parts", [(2, 2), (1, 1, 1, 1)])
def test_accumulated_batches_are_one_batch_without_batch_norm(kind, parts):
    # In evaluation mode batch norms do not see the batch.
    step = make_step(kind).eval()
    again, batches, start = copy.deepcopy(step), [], 0
    for size in parts:
        batches.append(batch_of(range(start, start + size)))
        start += size
    expected = gradients(step, BatchShares(step, step, ALONE, None, False), [batch_of(range(4))])
    results = gradients(again, BatchShares(again, again, ALONE, None, False), batches)
    check_close(results, expected)


def on_a_rank(processes: ProcessGroup, kind: str, accumulate: int, mode: str, empty_last: bool) -> dict:
    """One step of two processes, of which each has two of the four samples."""
    step = make_step(kind).train(mode != "eval")
    if mode != "eval":
        synchronise_norms(step, processes)
    if mode == "recomputed":
        recompute(step.detector, ("backbone", "neck", "decoder", "head"))
    parallel = DistributedDataParallel(step, find_unused_parameters=True)
    size, first = 2 // accumulate, 2 * processes.rank
    shares = BatchShares(step, parallel, processes, None, over_ranks=True)
    return gradients(
        step,
        shares,
        [batch_of(range(start, start + size), empty_last) for start in range(first, first + 2, size)],
    )


@pytest.mark.parametrize(
    ("kind", "accumulate", "mode", "empty_last"),
    [
        ("student", 2, "eval", False),
        ("student", 1, "train", False),
        ("student", 1, "recomputed", True),
        ("teacher", 1, "train", True),
    ],
)
def test_two_processes_are_one_batch(tmp_path, kind, accumulate, mode, empty_last):
    step = make_step(kind).train(mode != "eval")
    expected = gradients(step, BatchShares(step, step, ALONE, None, False), [batch_of(range(4), empty_last)])
    first, second = on_ranks(on_a_rank, tmp_path, kind, accumulate, mode, empty_last)
    terms = {name for name in expected if name.startswith("term ")}
    mean = {name: (first[name] + second[name]) / 2 for name in terms}
    check_close({**first, **mean}, expected)
    for name, value in first.items():
        assert name in terms or value.equal(second[name]), name
