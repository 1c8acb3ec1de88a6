"""Mask-scaling feature distillation."""

import math

import pytest
import torch

from crkd_core.distillation.msfd import msfd_cells, msfd_loss
from crkd_core.distillation.target_kinds import SparseCells
from crkd_core.errors import ConfigError

READINGS = pytest.mark.parametrize("reading", ["released", "paper"])


def _maps(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(2, 3, 6, 5, generator=generator) for _ in range(2))
    return student, teacher, torch.rand(2, 6, 5, generator=generator) > 0.5


def test_known_values_by_hand():
    teacher = torch.zeros(2, 2, 2, 2)
    teacher[0, :, 0, 1] = torch.tensor([1.0, 2.0])
    teacher[1, :, 1, 1] = torch.tensor([0.0, 5.0])
    student = teacher.clone()
    student[0, :, 0, 1] += torch.tensor([3.0, 4.0])
    mask = torch.zeros(2, 2, 2, dtype=torch.bool)
    mask[0, 0, 1] = mask[1, 1, 1] = mask[1, 0, 0] = True
    # One of three mask cells is zero in the teacher; 1/2 of the mean square is 6.25; two cells; two samples.
    released = msfd_loss(student, msfd_cells(teacher, mask, "released"), "released")
    assert math.isclose(released.item(), 6.25 / 2 / 2, rel_tol=1e-6)
    paper = msfd_loss(student, msfd_cells(teacher, mask, "paper"), "paper")
    assert math.isclose(paper.item(), 5.0 / (2 * 4), rel_tol=1e-6)


@READINGS
def test_cells_outside_the_mask_do_not_matter(reading):
    student, teacher, mask = _maps()
    cells = msfd_cells(teacher, mask, reading)
    changed = torch.where(mask[:, None], student, student + 7.0)
    assert torch.equal(msfd_loss(changed, cells, reading), msfd_loss(student, cells, reading))


@READINGS
def test_gradient_reaches_the_student_on_the_mask_only(reading):
    student, teacher, mask = _maps()
    msfd_loss(student.requires_grad_(), msfd_cells(teacher, mask, reading), reading).backward()
    assert torch.equal((student.grad != 0).any(dim=1), mask)


def test_the_paper_norm_has_a_finite_gradient_on_equal_maps():
    student, _, mask = _maps()
    cells = msfd_cells(student.clone(), mask, "paper")
    msfd_loss(student.requires_grad_(), cells, "paper").backward()
    assert student.grad.isfinite().all()


def test_other_channels_are_refused():
    student, teacher, mask = _maps()
    cells = msfd_cells(teacher, mask, "paper")
    with pytest.raises(ConfigError, match=r"\(2, 3, 6, 5\).*\(2, 2, 6, 5\)"):
        msfd_loss(student[:, :2], cells, "paper")


def test_cells_survive_splitting_and_joining():
    _, teacher, mask = _maps()
    mask[0] = False
    cells = SparseCells.select(teacher, mask)
    parts = cells.split()
    assert [len(part.indices) for part in parts] == [0, int(mask[1].sum())]
    assert torch.equal(parts[1].gather(teacher[1:]), cells.features)
    joined = SparseCells.join(parts)
    assert torch.equal(joined.indices, cells.indices)
    assert torch.equal(joined.features, cells.features)
    swapped = SparseCells.join(parts[::-1])
    assert torch.equal(swapped.gather(teacher.flip(0)), cells.features)
