"""Box codes at a few cells: they, their gradients and running statistics are those of whole maps."""

import copy

import pytest
import torch
from torch import nn

from crkd_core.models.box_branches import TaskOutputAtCells, patch_moments, patch_moments_reference
from crkd_core.models.box_coder import CHANNELS
from crkd_core.models.detector import build_detector
from crkd_core.models.head import CenterHead
from crkd_core.models.outputs import TaskOutput
from crkd_core.training.recomputation import recompute
from tests.support.described import TASKS
from tests.support.tiny_detector import TINY_DATA, tiny_config, tiny_inputs

SAMPLES, NX, NY = 2, 9, 5
CORNERS = [0, NY - 1, NX * NY - 1, NX * NY, SAMPLES * NX * NY - NY, SAMPLES * NX * NY - 1]
CELLS = {
    "none": [],
    "corners": CORNERS,
    "neighbours, one of them twice": [40, 3, 41, 12, 40],
    "all": [*range(SAMPLES * NX * NY)],
}


def head() -> CenterHead:
    torch.manual_seed(2)
    module = CenterHead(6, 4, 3, -2.0, TASKS).train()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.uniform_(part.bias, -1.0, 1.0)
    return module.double()


def decoded() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randn(SAMPLES, 6, NX, NY, dtype=torch.float64)


def run(module: CenterHead, box_maps: bool, cells: torch.Tensor) -> dict[str, torch.Tensor]:
    """Codes and heatmaps, gradients of a function of them, and running statistics."""
    x = decoded().requires_grad_()
    tasks = module(x, box_maps).tasks
    assert all(isinstance(task, TaskOutputAtCells) is not box_maps for task in tasks)
    codes = [task.codes_at(cells) for task in tasks]
    heatmaps = [task.heatmap_logits for task in tasks]
    sum(part.sin().sum() for part in (*codes, *heatmaps)).backward()
    gradients = {f"gradient of {name}": parameter.grad for name, parameter in module.named_parameters()}
    results = {"codes": torch.stack(codes), "heatmaps": torch.cat(heatmaps, dim=1), "gradient": x.grad}
    return {**results, **gradients, **module.state_dict()}


@pytest.fixture
def double_precision(monkeypatch):
    """Rounding aside, nothing may differ."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS.keys())
def test_codes_gradients_and_statistics_are_those_of_whole_maps(cells):
    index = torch.tensor(cells, dtype=torch.long)
    expected, results = run(head(), True, index), run(head(), False, index)
    assert results.keys() == expected.keys()
    torch.testing.assert_close(results, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("double_precision")
def test_whole_maps_are_made_when_they_are_read():
    dense, sparse = head()(decoded()), head()(decoded(), box_maps=False)
    for task, expected in zip(sparse.tasks, dense.tasks, strict=True):
        assert task.code_shape == tuple(expected.regression.shape)
        for name in vars(CHANNELS):
            torch.testing.assert_close(getattr(task, name), getattr(expected, name), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(task.regression, expected.regression, rtol=1e-9, atol=1e-9)
        with pytest.raises(AttributeError, match="heading"):
            _ = task.heading


@pytest.mark.parametrize("share", [1.0, 1e-4])
def test_patch_moments_are_their_definition(share):
    torch.manual_seed(0)
    bev_map = torch.randn(SAMPLES, 3, NX, NY, dtype=torch.float64).mul_(share).add_(1.0)
    directions = torch.randn(27, dtype=torch.float64), torch.randn(27, 27, dtype=torch.float64)
    gradients = []
    for moments in (patch_moments, patch_moments_reference):
        x = bev_map.clone().requires_grad_()
        values = moments(x)
        sum((value * direction).sum() for value, direction in zip(values, directions, strict=True)).backward()
        gradients.append([*(value.detach() for value in values), x.grad])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_a_map_far_from_zero_keeps_the_digits_of_its_variance():
    torch.manual_seed(0)
    bev_map = 100 + torch.randn(SAMPLES, 3, 60, 60, dtype=torch.float64).cumsum(dim=2)
    # A difference of neighbours: the large values, and what they have in common, cancel.
    difference = torch.zeros(3, 3, 3, dtype=torch.float64)
    difference[0, 1, 1], difference[0, 2, 1] = 1.0, -1.0
    direction = difference.flatten()
    expected = direction @ patch_moments_reference(bev_map)[1] @ direction
    variance = direction.float() @ patch_moments(bev_map.float())[1] @ direction.float()
    assert float(variance) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.usefixtures("double_precision")
def test_other_modes_and_norms_have_whole_maps():
    module = head().eval()
    assert all(type(task) is TaskOutput for task in module(decoded(), box_maps=False).tasks)

    class OtherNorm(nn.BatchNorm2d):
        pass

    module = head()
    module.tasks[1].maps["height"][1] = OtherNorm(3).double()
    assert all(type(task) is TaskOutput for task in module(decoded(), box_maps=False).tasks)


def test_recomputing_a_head_changes_nothing():
    torch.manual_seed(1)
    detector = build_detector(tiny_config(("camera", "radar")), TINY_DATA, TASKS).train()
    again = copy.deepcopy(detector)
    recompute(again, ("head",))
    results = []
    for model in (detector, again):
        tasks = model(tiny_inputs(), box_maps=False).head.tasks
        sum(task.codes_at(torch.arange(9)).sum() + task.heatmap_logits.sum() for task in tasks).backward()
        gradients = {f"gradient of {name}": parameter.grad for name, parameter in model.named_parameters()}
        results.append({**gradients, **model.state_dict()})
    torch.testing.assert_close(*results, rtol=0, atol=0)
