"""Teacher targets of a mirrored scene: more views of a sample from one stored view.

The geometry is exact: cells move to their mirror cells, offsets within a cell, headings and velocities turn with them,
as they would for the mirrored ground truth. The values are those of the teacher on the scene as it was: convolutions
are not symmetric, so a teacher that ran on the mirrored sensors would differ a little, as between any two views.
"""

from torch import Tensor

from crkd_core.distillation.cells import SparseCells
from crkd_core.distillation.respd import TaskResponse, TeacherResponse
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.models.box_coder import BoxCoder


def mirror_targets(targets: TeacherTargets, mirrored: tuple[bool, bool]) -> TeacherTargets:
    """Targets on a grid whose x and/or y axis is mirrored about its middle; twice the same is the original.

    Args:
        mirrored: along x, along y. The middle of the grid must be 0 along a mirrored axis.
    """
    if not any(mirrored):
        return targets
    response = targets.response
    return TeacherTargets(
        batch_size=targets.batch_size,
        grid_shape=targets.grid_shape,
        objectness=None if targets.objectness is None else _mirror_map(targets.objectness, mirrored),
        camera=None if targets.camera is None else _mirror_cells(targets.camera, mirrored),
        fused=None if targets.fused is None else _mirror_cells(targets.fused, mirrored),
        relation=None
        if targets.relation is None
        else tuple(_mirror_map(bev_map, mirrored) for bev_map in targets.relation),
        response=None
        if response is None
        else TeacherResponse(tuple(_mirror_task(task, mirrored) for task in response.tasks)),
    )


def _mirror_task(task: TaskResponse, mirrored: tuple[bool, bool]) -> TaskResponse:
    cells = _mirror_cells(task.boxes, mirrored)
    codes = BoxCoder.mirror(cells.features, mirrored)
    boxes = SparseCells(cells.indices, codes, cells.batch_size, cells.grid_shape)
    return TaskResponse(_mirror_map(task.heatmap_prob, mirrored), boxes)


def _mirror_map(bev_map: Tensor, mirrored: tuple[bool, bool]) -> Tensor:
    return bev_map.flip([dim for dim, flipped in zip((-2, -1), mirrored, strict=True) if flipped])


def _mirror_cells(cells: SparseCells, mirrored: tuple[bool, bool]) -> SparseCells:
    nx, ny = cells.grid_shape
    sample, cell = cells.indices // (nx * ny), cells.indices % (nx * ny)
    x, y = cell // ny, cell % ny
    x = nx - 1 - x if mirrored[0] else x
    y = ny - 1 - y if mirrored[1] else y
    indices, order = ((sample * nx + x) * ny + y).sort()
    return SparseCells(indices, cells.features[order], cells.batch_size, cells.grid_shape)
