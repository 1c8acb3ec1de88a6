"""Everything the four losses need from the teacher, for a batch: from a live teacher or from the cache, one type."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from crkd_core.config.distill import DistillConfig, MSFDConfig
from crkd_core.distillation.batching import join, layout, move, split
from crkd_core.distillation.cells import SparseCells
from crkd_core.distillation.csrd import csrd_target
from crkd_core.distillation.masks import foreground_mask
from crkd_core.distillation.msfd import msfd_cells
from crkd_core.distillation.reld import resample
from crkd_core.distillation.respd import TaskResponse, TeacherResponse, teacher_response
from crkd_core.errors import ConfigError, DamagedArtifactError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.outputs import BEVFeatures, DetectorOutput

Storage = Literal["fp32", "fp16"]
_STORED_DTYPE = {"fp32": torch.float32, "fp16": torch.float16}


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


@dataclass(frozen=True)
class SampleTargets:
    """Teacher targets of one view of one sample, as the cache keeps them.

    Attributes:
        targets: a batch of one.
    """

    targets: TeacherTargets

    def tensors(self, storage: Storage) -> dict[str, Tensor]:
        """Named, contiguous tensors on the CPU, without a batch dimension; the inverse of :meth:`from_tensors`.

        Floating-point values have the storage precision; in fp16 those beyond its range become its largest. Cell
        indices are ``x * Y + y`` in int32.

        - ``grid_shape`` [2];
        - ``csrd.objectness`` [X, Y];
        - ``msfd.camera.indices`` [P], ``msfd.camera.features`` [P, C], the same for ``msfd.fused``;
        - ``reld.I`` [C, s, s] for the I-th scale;
        - ``respd.K.heatmap_prob`` [classes, X, Y], ``respd.K.indices`` [P], ``respd.K.features`` [P, 10] for the K-th
          head task.
        """
        targets = self.targets
        named: dict[str, Tensor] = {"grid_shape": torch.tensor(targets.grid_shape)}
        if targets.objectness is not None:
            named["csrd.objectness"] = targets.objectness[0]
        for name, cells in (("msfd.camera", targets.camera), ("msfd.fused", targets.fused)):
            if cells is not None:
                named |= {f"{name}.indices": cells.indices, f"{name}.features": cells.features}
        for index, bev_map in enumerate(targets.relation or ()):
            named[f"reld.{index}"] = bev_map[0]
        for index, task in enumerate(targets.response.tasks if targets.response is not None else ()):
            named |= {
                f"respd.{index}.heatmap_prob": task.heatmap_prob[0],
                f"respd.{index}.indices": task.boxes.indices,
                f"respd.{index}.features": task.boxes.features,
            }
        return {name: _stored(tensor, storage) for name, tensor in named.items()}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> "SampleTargets":
        """Targets from the tensors that :meth:`tensors` named, in float32.

        Raises:
            DamagedArtifactError: a tensor is missing, or a cell lies outside the grid.
        """
        reader = _Reader(tensors)
        tasks: list[TaskResponse] = []
        while reader.has(f"respd.{len(tasks)}."):
            name = f"respd.{len(tasks)}"
            tasks.append(TaskResponse(reader.floats(f"{name}.heatmap_prob")[None], reader.cells(name)))
        relation: list[Tensor] = []
        while reader.has(f"reld.{len(relation)}"):
            relation.append(reader.floats(f"reld.{len(relation)}")[None])
        return SampleTargets(
            TeacherTargets(
                batch_size=1,
                grid_shape=reader.grid_shape,
                objectness=reader.floats("csrd.objectness")[None] if reader.has("csrd.") else None,
                camera=reader.cells("msfd.camera") if reader.has("msfd.camera.") else None,
                fused=reader.cells("msfd.fused") if reader.has("msfd.fused.") else None,
                relation=tuple(relation) or None,
                response=TeacherResponse(tuple(tasks)) if tasks else None,
            )
        )


def split_targets(targets: TeacherTargets) -> list[SampleTargets]:
    """The targets of each sample of a batch; the inverse of :func:`collate_targets`."""
    return [
        SampleTargets(TeacherTargets(1, targets.grid_shape, *parts))
        for parts in split(targets.parts, targets.batch_size)
    ]


def collate_targets(samples: list[SampleTargets]) -> TeacherTargets:
    """One batch of several samples' targets.

    Raises:
        ConfigError: there are none, or they differ in grid, losses or shapes.
    """
    if not samples:
        raise ConfigError("a batch of teacher targets needs at least one sample, found none")
    kinds = [(sample.targets.grid_shape, layout(sample.targets.parts)) for sample in samples]
    for index, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise ConfigError(
                f"teacher targets of one batch must come from one extraction, but sample {index} has the layout {kind} "
                f"(grid, then shapes per loss) and sample 0 has {kinds[0]}; extract them again with one configuration"
            )
    return TeacherTargets(len(samples), kinds[0][0], *join([sample.targets.parts for sample in samples]))


def _stored(tensor: Tensor, storage: Storage) -> Tensor:
    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point():
        return tensor.to(torch.int32).contiguous()
    dtype = _STORED_DTYPE[storage]
    largest = torch.finfo(dtype).max
    return tensor.clamp(-largest, largest).to(dtype).contiguous()


class _Reader:
    """Takes named tensors and says which one is missing or wrong."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        nx, ny = self._get("grid_shape").tolist()
        self.grid_shape = (int(nx), int(ny))

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self._tensors)

    def floats(self, name: str) -> Tensor:
        return self._get(name).float()

    def cells(self, name: str) -> SparseCells:
        indices = self._get(f"{name}.indices").long()
        cells = self.grid_shape[0] * self.grid_shape[1]
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < cells:
            raise DamagedArtifactError(
                f"teacher targets name cells outside their grid of {cells} cells in {name}.indices "
                f"({int(indices.min())} to {int(indices.max())}); extract the targets again"
            )
        return SparseCells(indices, self.floats(f"{name}.features"), 1, self.grid_shape)

    def _get(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise DamagedArtifactError(
                f"teacher targets lack the tensor {name}, found {', '.join(sorted(self._tensors)) or 'none'}; "
                "extract the targets again"
            )
        return self._tensors[name]
