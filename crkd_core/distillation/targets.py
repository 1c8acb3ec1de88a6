"""Everything the four losses need from the teacher, for a batch: from a live teacher or from the cache, one type."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crkd_core.config.distill import DistillConfig, MSFDConfig
from crkd_core.distillation.batching import join, layout, move, split
from crkd_core.distillation.cells import SparseCells
from crkd_core.distillation.csrd import csrd_target
from crkd_core.distillation.masks import foreground_mask
from crkd_core.distillation.msfd import msfd_cells
from crkd_core.distillation.reld import resample
from crkd_core.distillation.respd import TeacherResponse, teacher_response
from crkd_core.errors import ConfigError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.outputs import BEVFeatures, DetectorOutput


@dataclass(frozen=True)
class TeacherTargets:
    """The teacher's side of every loss term for B samples: float32, without gradient, None where no term needs it.

    Attributes:
        batch_size: B.
        grid_shape: (X, Y) of the BEV grid.
        objectness: [B, X, Y], for CSRD.
        camera, fused: gated camera and fused maps on foreground cells, for MSFD.
        relation: fused map resampled to each scale s, [B, C, s, s], for RelD.
        response: heatmaps and boxes, for RespD.
    """

    batch_size: int
    grid_shape: tuple[int, int]
    objectness: Tensor | None = None
    camera: SparseCells | None = None
    fused: SparseCells | None = None
    relation: tuple[Tensor, ...] | None = None
    response: TeacherResponse | None = None

    @property
    def parts(self) -> tuple[Any, ...]:
        """What the loss terms need, in the order of the fields."""
        return (self.objectness, self.camera, self.fused, self.relation, self.response)

    def to(self, device: torch.device | str) -> "TeacherTargets":
        """The same targets on another device."""
        return TeacherTargets(self.batch_size, self.grid_shape, *move(self.parts, device))


def needed_terms(config: DistillConfig) -> tuple[str, ...]:
    """Names of the terms with a weight above zero: csrd, msfd_camera, msfd_fused, reld, respd, in this order."""
    weights = (
        ("csrd", "csrd", config.csrd.weight),
        ("msfd_camera", "msfd", config.msfd.camera_weight),
        ("msfd_fused", "msfd", config.msfd.fused_weight),
        ("reld", "reld", config.reld.weight),
        ("respd", "respd", config.respd.weight),
    )
    return tuple(term for term, loss, weight in weights if loss in config.losses and weight > 0)


@torch.no_grad()
def build_targets(output: DetectorOutput, boxes: list[Boxes3D], grid: BEVGrid, config: DistillConfig) -> TeacherTargets:
    """Targets from the output of a teacher that has just seen the batch.

    Args:
        output: the teacher's, of B samples.
        boxes: ground truth of each sample, in the model frame after the augmentation that the teacher saw.
        grid: the BEV grid of the maps.
        config: what is kept: only what terms with a weight need.

    Raises:
        ConfigError: the maps do not fit the grid or the number of box sets, or the teacher has no camera map although
            MSFD compares it.
    """
    fused, terms = output.features.fused, needed_terms(config)
    expected, found = (len(boxes), *grid.shape), (fused.shape[0], *fused.shape[2:])
    if found != expected:
        raise ConfigError(
            f"the teacher's fused map must fit the boxes and the grid: expected {expected} (samples, x, y), found "
            f"{found}; run the teacher on the batch that the boxes belong to, on the grid of the data section"
        )
    camera_cells, fused_cells = _foreground_cells(output.features, boxes, grid, config, terms)
    return TeacherTargets(
        batch_size=len(boxes),
        grid_shape=grid.shape,
        objectness=csrd_target(output, config.csrd) if "csrd" in terms else None,
        camera=camera_cells,
        fused=fused_cells,
        relation=resample(fused, config.reld.scales) if "reld" in terms else None,
        response=teacher_response(output.head, config.respd) if "respd" in terms else None,
    )


def _foreground_cells(
    features: BEVFeatures, boxes: list[Boxes3D], grid: BEVGrid, config: DistillConfig, terms: tuple[str, ...]
) -> tuple[SparseCells | None, SparseCells | None]:
    if "msfd_camera" not in terms and "msfd_fused" not in terms:
        return None, None
    if "msfd_camera" in terms and features.gated_camera is None:
        raise ConfigError(
            "msfd compares camera maps but the teacher has no camera; set distill.msfd.camera_weight to 0"
        )
    msfd = resolved_msfd(config)
    mask = torch.stack([foreground_mask(part.to(features.fused.device), grid, msfd) for part in boxes])
    camera = features.gated_camera if "msfd_camera" in terms else None
    return (
        None if camera is None else msfd_cells(camera, mask, msfd.reading),
        msfd_cells(features.fused, mask, msfd.reading) if "msfd_fused" in terms else None,
    )


def resolved_msfd(config: DistillConfig) -> MSFDConfig:
    """The MSFD section, with the released masks where the quirk ``mask`` asks for them."""
    if "mask" in config.released_quirks:
        return config.msfd.model_copy(update={"mask": "released"})
    return config.msfd


def split_targets(targets: TeacherTargets) -> list[TeacherTargets]:
    """The targets of each sample of a batch, as batches of one; the inverse of :func:`collate_targets`."""
    return [TeacherTargets(1, targets.grid_shape, *parts) for parts in split(targets.parts, targets.batch_size)]


def collate_targets(samples: list[TeacherTargets]) -> TeacherTargets:
    """One batch of several.

    Raises:
        ConfigError: there are none, or they differ in grid, losses or shapes.
    """
    if not samples:
        raise ConfigError("a batch of teacher targets needs at least one sample, found none")
    kinds = [(sample.grid_shape, layout(sample.parts)) for sample in samples]
    for index, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise ConfigError(
                f"teacher targets of one batch must come from one extraction, but sample {index} has the layout {kind} "
                f"(grid, then shapes per loss) and sample 0 has {kinds[0]}; extract them again with one configuration"
            )
    return TeacherTargets(
        sum(sample.batch_size for sample in samples), kinds[0][0], *join([sample.parts for sample in samples])
    )
