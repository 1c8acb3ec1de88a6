"""Boxes: corners, containment and behaviour under BEV augmentation."""

import math

import pytest
import torch

from crkd_core.geometry.boxes import Boxes3D


def random_boxes(count=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 9, generator=generator, dtype=torch.float64) * 5
    values[:, 3:6] = values[:, 3:6].abs() + 0.2
    return Boxes3D(values)


def test_corners_of_a_known_box():
    box = Boxes3D(torch.tensor([[10.0, 5.0, 1.0, 2.0, 4.0, 1.5, math.pi / 2, 0.0, 0.0]]))
    # Heading +y: the length runs along y, the left side is at smaller x.
    expected = torch.tensor([[9.0, 7.0], [9.0, 3.0], [11.0, 3.0], [11.0, 7.0]])
    torch.testing.assert_close(box.bev_corners()[0], expected)
    torch.testing.assert_close(box.corners()[0, :, 2], torch.tensor([0.25] * 4 + [1.75] * 4))


def test_a_box_contains_its_centre_and_shrunk_corners_but_not_grown_ones():
    boxes = random_boxes()
    for index in range(len(boxes)):
        box = boxes[index : index + 1]
        offsets = box.corners()[0] - box.centre
        assert box.contain(torch.cat([box.centre, box.centre + 0.999 * offsets])).all()
        assert not box.contain(box.centre + 1.001 * offsets).any()


@pytest.mark.parametrize("flip", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_augmentation_moves_corners_like_points(flip):
    boxes = random_boxes()
    angle, scale = 0.7, 1.07
    linear = torch.diag(torch.tensor([*flip, 1.0], dtype=torch.float64)) * scale
    linear = linear @ torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]], dtype=torch.float64
    )
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = linear, torch.tensor([1.0, -2.0, 0.3])
    moved = boxes.augmented(matrix)
    expected = boxes.corners() @ linear.T + matrix[:3, 3]
    # A mirror swaps left and right, so corners agree as sets.
    distances = torch.cdist(moved.corners(), expected)
    assert distances.min(dim=2).values.max() < 1e-9
    torch.testing.assert_close(moved.velocity, boxes.velocity @ linear[:2, :2].T)


def test_unknown_velocities_stay_unknown_and_inputs_unchanged():
    boxes = random_boxes()
    boxes.tensor[0, 7:] = float("nan")
    before = boxes.tensor.clone()
    moved = boxes.augmented(torch.eye(4) * torch.tensor([-1.0, 1, 1, 1]))
    assert moved.velocity[0].isnan().all()
    torch.testing.assert_close(boxes.tensor, before, equal_nan=True)


def test_wrapped_yaw_is_in_half_open_range():
    boxes = random_boxes(200)
    wrapped = boxes.wrapped().yaw
    assert ((wrapped >= -math.pi) & (wrapped < math.pi)).all()
    torch.testing.assert_close(wrapped.cos(), boxes.yaw.cos())


def test_wrong_width_is_refused():
    with pytest.raises(ValueError, match=r"\(M, 9\)"):
        Boxes3D(torch.zeros(3, 7))
