"""Greedy suppression of whole lists at once equals a plain loop over boxes."""

import torch

from crkd_core.ops.nms import circle_nms, greedy_keep, rotated_nms
from crkd_core.ops.rotated_iou import rotated_iou


def kept_by_a_loop(conflict: torch.Tensor, candidates: torch.Tensor) -> list[bool]:
    kept: list[int] = []
    for box in torch.nonzero(candidates).flatten().tolist():
        if not any(conflict[better, box] for better in kept):
            kept.append(box)
    return [box in kept for box in range(len(candidates))]


def test_greedy_keep_equals_a_plain_loop():
    torch.manual_seed(0)
    for size in (0, 1, 2, 60):
        for density in (0.0, 0.03, 0.3, 1.0):
            conflict, candidates = torch.rand(2, 3, size, size) < density, torch.rand(2, 3, size) < 0.8
            expected = [
                [kept_by_a_loop(*one) for one in zip(*lists, strict=True)] for lists in zip(conflict, candidates)
            ]
            assert greedy_keep(conflict, candidates).tolist() == expected


def test_both_kinds_equal_a_plain_loop():
    torch.manual_seed(0)
    boxes = torch.rand(4, 50, 5) * torch.tensor([15.0, 15, 4, 2, 6]) + torch.tensor([0, 0, 1.0, 1.0, 0])
    candidates = torch.rand(4, 50) < 0.9
    limits = torch.tensor([0.5, 1.0, 4.0, 9.0])
    circle, rotated = circle_nms(boxes[..., :2], limits, candidates), rotated_nms(boxes, 0.2, candidates)
    for index in range(4):
        centres = boxes[index, :, :2]
        near = (centres[:, None] - centres).square().sum(dim=2) <= limits[index]
        assert circle[index].tolist() == kept_by_a_loop(near, candidates[index])
        overlap = rotated_iou(boxes[index], boxes[index]) > 0.2
        assert rotated[index].tolist() == kept_by_a_loop(overlap, candidates[index])
    assert 0 < circle.sum() < candidates.sum()
    assert 0 < rotated.sum() < candidates.sum()


def test_chain_of_conflicts_keeps_every_second_box():
    centres = torch.stack([torch.arange(9.0), torch.zeros(9)], dim=1)
    everyone = torch.ones(9, dtype=torch.bool)
    assert torch.nonzero(circle_nms(centres, torch.tensor(1.0), everyone)).flatten().tolist() == [0, 2, 4, 6, 8]
    assert circle_nms(centres, torch.tensor(0.99), everyone).all()


def test_padding_neither_stays_nor_suppresses():
    boxes = torch.tensor([[0.0, 0, 2, 2, 0], [0, 0, 2, 2, 0], [0, 0, 2, 2, 0]])
    candidates = torch.tensor([False, True, True])
    assert rotated_nms(boxes, 0.2, candidates).tolist() == [False, True, False]
    assert circle_nms(boxes[:, :2], torch.tensor(1.0), candidates).tolist() == [False, True, False]
