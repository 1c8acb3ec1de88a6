"""The box code: laws of encoding, decoding and mirroring, and its one list of channels."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.box_coder import CHANNEL_COUNT, CHANNELS, BoxCode, BoxCoder, split_channels, spread_over_channels
from crkd_core.models.head import TaskHead
from crkd_core.models.outputs import TaskOutput

GRID = BEVGrid((-9.6, 9.6), (-4.8, 4.8), (-5.0, 3.0), 0.6)
CODER = BoxCoder(GRID)
MIRRORINGS = [(True, False), (False, True), (True, True)]
SEEDS = st.integers(0, 2**31)


def random_boxes(seed: int, count: int = 30) -> torch.Tensor:
    """On the grid, of any yaw in [-pi, pi); some velocities unknown."""
    generator = torch.Generator().manual_seed(seed)
    span = torch.tensor([18.0, 9.0, 8.0, 3.0, 12.0, 4.0, 2 * math.pi, 30.0, 30.0], dtype=torch.float64)
    middle = torch.tensor([0.0, 0.0, -1.0, 1.6, 6.2, 2.1, 0.0, 0.0, 0.0], dtype=torch.float64)
    boxes = (torch.rand(count, 9, generator=generator, dtype=torch.float64) - 0.5) * span + middle
    boxes[torch.rand(count, generator=generator) < 0.2, 7:] = float("nan")
    return boxes


def mirror_boxes(boxes: torch.Tensor, mirrored: tuple[bool, bool]) -> torch.Tensor:
    matrix = torch.diag(torch.tensor([*(-1.0 if along else 1.0 for along in mirrored), 1.0, 1.0], dtype=torch.float64))
    return Boxes3D(boxes).augmented(matrix).tensor


def mirror_cells(cells: torch.Tensor, mirrored: tuple[bool, bool]) -> torch.Tensor:
    sides = torch.tensor(GRID.shape)
    return torch.where(torch.tensor(mirrored), sides - 1 - cells, cells)


def same_boxes(left: torch.Tensor, right: torch.Tensor) -> bool:
    left, right = left.clone(), right.clone()
    turn = left[:, 6] - right[:, 6]
    left[:, 6] -= 2 * math.pi * (turn / (2 * math.pi)).round()
    return torch.allclose(left, right, rtol=0, atol=1e-9, equal_nan=True)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, shift=st.tuples(st.integers(-3, 3), st.integers(-3, 3)))
def test_decoding_is_the_inverse_of_encoding_from_any_cell(seed, shift):
    boxes = random_boxes(seed)
    cells = GRID.locate(boxes[:, :2])[0] + torch.tensor(shift)
    assert same_boxes(CODER.decode(CODER.encode(boxes, cells), cells), boxes)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, mirrored=st.sampled_from(MIRRORINGS))
def test_mirrored_codes_are_the_codes_of_the_mirrored_boxes(seed, mirrored):
    boxes = random_boxes(seed)
    cells = GRID.locate(boxes[:, :2])[0]
    code = CODER.mirror(CODER.encode(boxes, cells), mirrored)
    expected = CODER.encode(mirror_boxes(boxes, mirrored), mirror_cells(cells, mirrored))
    torch.testing.assert_close(code, expected, rtol=0, atol=1e-9, equal_nan=True)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, mirrored=st.sampled_from(MIRRORINGS))
def test_mirroring_twice_changes_nothing(seed, mirrored):
    boxes = random_boxes(seed)
    code = CODER.encode(boxes, GRID.locate(boxes[:, :2])[0])
    once = CODER.mirror(code, mirrored)
    assert not torch.equal(once.nan_to_num(), code.nan_to_num())
    torch.testing.assert_close(CODER.mirror(once, mirrored), code, rtol=0, atol=1e-12, equal_nan=True)
    assert torch.equal(CODER.mirror(code, (False, False)).nan_to_num(), code.nan_to_num())


def test_a_known_code():
    boxes = torch.tensor([[0.75, -0.15, -1.0, 2.0, 4.0, 1.5, 0.3, 1.0, float("nan")]])
    parts = split_channels(CODER.encode(boxes, torch.tensor([[17, 7]])))
    assert parts.offset[0].tolist() == pytest.approx([0.25, 0.75], abs=1e-5)
    assert parts.height[0].tolist() == [-1.0]
    assert parts.log_size[0].tolist() == pytest.approx([math.log(2), math.log(4), math.log(1.5)])
    released_yaw = -0.3 - math.pi / 2
    assert parts.rotation[0].tolist() == pytest.approx([math.sin(released_yaw), math.cos(released_yaw)])
    assert parts.velocity[0, 0] == 1
    assert parts.velocity[0, 1].isnan()


def test_the_head_its_output_and_the_parts_share_one_list_of_channels():
    names = [field.name for field in dataclasses.fields(BoxCode)]
    assert [field.name for field in dataclasses.fields(TaskOutput)] == ["heatmap_logits", *names]
    output = TaskHead(4, 4, 2, 0.0)(torch.randn(1, 4, 3, 5))
    assert [getattr(output, name).shape[1] for name in names] == [*CHANNELS]
    assert output.regression.shape == (1, CHANNEL_COUNT, 3, 5)
    parts = split_channels(output.regression.movedim(1, -1))
    assert all(torch.equal(part.movedim(-1, 1), getattr(output, name)) for name, part in vars(parts).items())


def test_values_of_parts_are_spread_over_their_channels():
    assert spread_over_channels(BoxCode(1.0, 2.0, 3.0, 4.0, 5.0)) == [1, 1, 2, 3, 3, 3, 4, 4, 5, 5]
