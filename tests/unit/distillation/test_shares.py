"""Losses of a batch in parts: with the counts of all parts they add up to those of the whole, gradients included."""

import pytest
import torch

from crkd_core.config.distill import CSRDConfig, DistillConfig, MSFDConfig, RelDConfig, RespDConfig
from crkd_core.config.models import RadarBranchConfig
from crkd_core.distillation.losses import build_targets
from crkd_core.distillation.objective import build_objective
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.models.outputs import BEVFeatures, DetectorOutput, HeadOutput, TaskOutput
from tests.support.tiny_detector import tiny_config

RELEASED = DistillConfig(reld=RelDConfig(scales=(8, 4)))
PAPER = DistillConfig(
    csrd=CSRDConfig(reading="paper", object_weight=1.0),
    msfd=MSFDConfig(reading="paper", adapter=True),
    reld=RelDConfig(scales=(8, 4), reading="paper", affinity="cosine"),
    respd=RespDConfig(reading="paper"),
)


def part_of(output: DetectorOutput, start: int, stop: int) -> DetectorOutput:
    def cut(holder):
        return {name: value if value is None else value[start:stop] for name, value in vars(holder).items()}

    tasks = tuple(TaskOutput(**cut(task)) for task in output.head.tasks)
    return DetectorOutput(BEVFeatures(**cut(output.features)), HeadOutput(tasks))


@pytest.mark.parametrize("heat", [-3.0, -14.0, -40.0], ids=["confident", "below the threshold", "clipped"])
@pytest.mark.parametrize("config", [RELEASED, PAPER], ids=["released", "paper"])
@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (1, 1, 1, 1)])
def test_parts_add_up_to_the_whole(config, heat, sizes, random_output, random_boxes, leaves, small_grid):
    targets = build_targets(random_output(1, batch=4, heat=heat), random_boxes(2, batch=4), small_grid, config)
    student, objective = random_output(5, batch=4), build_objective(config, small_grid, 8, _with_camera(5))
    torch.manual_seed(0)
    for parameter in objective.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    wholes = objective(student, targets)
    expected = torch.autograd.grad(sum(wholes.values()), leaves(student), allow_unused=True)

    samples, start = targets.split(), 0
    parts = []
    for size in sizes:
        parts.append((part_of(student, start, start + size), TeacherTargets.join(samples[start : start + size])))
        start += size
    counts = [sum(of_loss) for of_loss in zip(*(objective.count(of_part) for _, of_part in parts), strict=True)]
    sums = [objective(output, of_part, counts) for output, of_part in parts]
    totals = {name: sum(terms[name] for terms in sums) for name in wholes}
    for name, whole in wholes.items():
        torch.testing.assert_close(totals[name], whole, rtol=1e-5, atol=1e-7, msg=name)
    gradients = torch.autograd.grad(sum(totals.values()), leaves(student), allow_unused=True)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-7)


def test_without_counts_parts_do_not_add_up(random_output, random_boxes, small_grid):
    """Which is why they are needed: every part alone is divided by its own objects."""
    targets = build_targets(random_output(1, batch=4), random_boxes(2, batch=4), small_grid, RELEASED)
    student, objective = random_output(5, batch=4), build_objective(RELEASED, small_grid, 8)
    samples = targets.split()
    halves = [
        objective(part_of(student, first, first + 2), TeacherTargets.join(samples[first : first + 2]))
        for first in (0, 2)
    ]
    whole = objective(student, targets)
    for name in ("msfd_fused", "respd"):
        mean = (halves[0][name] + halves[1][name]) / 2
        assert not torch.allclose(mean, whole[name], rtol=1e-3), name


def _with_camera(channels: int):
    student = tiny_config(("camera", "radar"), radar=RadarBranchConfig(channels=(8, 8), calibration=True))
    view = student.camera.view_transform.model_copy(update={"channels": channels})
    fuser = student.fuser.model_copy(update={"channels": 8})
    camera = student.camera.model_copy(update={"view_transform": view})
    return student.model_copy(update={"camera": camera, "fuser": fuser})
