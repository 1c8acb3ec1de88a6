"""How far two sets of teacher targets of one sample are apart, part by part."""

import torch
from torch import Tensor

from crkd_core.distillation.cells import SparseCells
from crkd_core.distillation.targets import TeacherTargets

_CELLS_THAT_MAY_DIFFER = 0.02


def target_deviations(found: TeacherTargets, expected: TeacherTargets) -> dict[str, float]:
    """For each part that either holds: the norm of the difference, relative to the norm of what is expected.

    Infinite where a part is missing, of another shape, or on other cells. Boxes are compared on the cells that both
    have: which cells matter depends on a threshold, so up to 2% of them may differ by rounding.
    """
    deviations: dict[str, float] = {}
    for name in ("objectness", "camera", "fused"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        if ours is not None or theirs is not None:
            deviations[name] = _deviation(ours, theirs)
    if found.relation is not None or expected.relation is not None:
        deviations["relation"] = _worst(_deviation, found.relation, expected.relation)
    if found.response is not None or expected.response is not None:
        ours, theirs = (None if t.response is None else t.response.tasks for t in (found, expected))
        deviations["heatmaps"] = _worst(lambda a, b: _deviation(a.heatmap_prob, b.heatmap_prob), ours, theirs)
        deviations["boxes"] = _worst(lambda a, b: _deviation(*_common(a.boxes, b.boxes)), ours, theirs)
    return deviations


def _worst(deviation, ours, theirs) -> float:
    if ours is None or theirs is None or len(ours) != len(theirs):
        return float("inf")
    return max(deviation(one, other) for one, other in zip(ours, theirs, strict=True))


def _deviation(found: Tensor | SparseCells | None, expected: Tensor | SparseCells | None) -> float:
    if isinstance(found, SparseCells) and isinstance(expected, SparseCells):
        same = torch.equal(found.indices, expected.indices)
        return _deviation(found.features, expected.features) if same else float("inf")
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor) or found.shape != expected.shape:
        return float("inf")
    difference = float((found - expected).norm())
    if difference == 0:
        return 0.0
    # A difference that is not a number is a difference.
    return difference / max(float(expected.norm()), 1e-12) if difference == difference else float("inf")


def _common(found: SparseCells, expected: SparseCells) -> tuple[SparseCells, SparseCells]:
    ours, theirs = torch.isin(found.indices, expected.indices), torch.isin(expected.indices, found.indices)
    differing = int((~ours).sum() + (~theirs).sum())
    if differing > max(1, _CELLS_THAT_MAY_DIFFER * len(expected.indices)):
        return found, expected
    return _chosen(found, ours), _chosen(expected, theirs)


def _chosen(cells: SparseCells, chosen: Tensor) -> SparseCells:
    return SparseCells(cells.indices[chosen], cells.features[chosen], cells.batch_size, cells.grid_shape)
