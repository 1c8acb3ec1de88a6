"""Reduced precision: every loss stays near its float32 value on the same batch with the same weights."""

import pytest
import torch

from crkd_core.data.dataset import SampleDataset
from crkd_core.data.samples import Batch, collate
from crkd_core.datasets.prepared.source import open_prepared
from crkd_core.distillation.objective import build_objective
from crkd_core.models.autocast import autocast
from crkd_core.teacher_cache.sources import FrozenTeacher
from crkd_core.training.steps import DetectionStep, DistillationStep
from crkd_core.training.trained import load_trained

CPU = torch.device("cpu")
DISTILLATION_TERMS = {"csrd", "msfd_camera", "msfd_fused", "reld", "respd"}


@pytest.fixture(scope="module")
def batch(chain) -> Batch:
    """A training sample, augmented, with the sensors of teacher and student."""
    data, modalities = chain.config.data, ("camera", "lidar", "radar")
    prepared = open_prepared(chain.workspace, None, None, data, modalities, "test")
    tokens = prepared.tokens("train")
    dataset = SampleDataset(prepared, tokens, data, modalities, bev=data.augment_student, seed=0)
    return collate([dataset[(0, 1)]])


def training_step(chain, role: str) -> torch.nn.Module:
    """The teacher's detection step, or the student's distillation step with the live teacher, from trained weights."""
    config, grid = chain.config, chain.config.data.grid.build()
    teacher = load_trained(chain.workspace.find("train-teacher", needed_for="test", make=""))
    if role == "teacher":
        return DetectionStep(teacher.detector, config.teacher.head, grid).train()
    student = load_trained(chain.workspace.find("distill", "crkd", needed_for="test", make=""))
    configs = (student.detector_config, teacher.detector_config)
    torch.manual_seed(0)
    objective = build_objective(config.distill, grid, student.detector.fused_channels, *configs)
    source = FrozenTeacher(teacher.detector, grid, config.distill)
    return DistillationStep(student.detector, config.student.head, grid, objective, source).train()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_losses_under_autocast_are_within_two_percent_of_float32(chain, batch, role, dtype):
    with torch.no_grad():
        exact = training_step(chain, role)(batch)
    step = training_step(chain, role)
    with autocast(dtype, CPU), torch.set_grad_enabled(dtype == torch.bfloat16):
        reduced = step(batch)
    assert reduced.keys() == exact.keys()
    assert len(exact) == 12 + (len(DISTILLATION_TERMS) if role == "student" else 0)
    assert exact.keys() >= DISTILLATION_TERMS or role == "teacher"
    for name, expected in exact.items():
        assert expected > 0, name
        torch.testing.assert_close(reduced[name].float(), expected, rtol=0.02, atol=0, msg=name)
    assert any(not torch.equal(reduced[name], exact[name]) for name in exact)
    if dtype == torch.bfloat16:  # a CPU takes half a minute for the gradients of fp16 convolutions
        sum(reduced.values()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in step.parameters())
