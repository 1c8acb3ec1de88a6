"""Recorded numbers of the published implementation, for tests; absent ones make a test skip.

They lie beside the repository, in ``shared/goldens``. Boxes there have their bottom centre and the released yaw
(``-yaw - pi / 2`` of ours); :func:`boxes_from_released` converts them.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.sensors import CameraRig
from crkd_core.models.outputs import HeadOutput, TaskOutput

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "goldens"

# Rules from the published state-dict keys to ours, applied in order.
_RULES = [
    (r"^encoders\.(camera|lidar|radar)\.", r"\1."),
    (r"^camera\.neck\.deblocks\.", "camera.neck.branches."),
    (r"^camera\.neck\.lateral_convs\.0\.", "camera.neck.lateral_fine."),
    (r"^camera\.neck\.lateral_convs\.1\.", "camera.neck.lateral_middle."),
    (r"^camera\.neck\.fpn_convs\.0\.", "camera.neck.smooth_fine."),
    (r"^camera\.neck\.fpn_convs\.1\.", "camera.neck.smooth_middle."),
    (r"^(camera\.neck\..*)\.conv\.", r"\1.0."),
    (r"^(camera\.neck\..*)\.bn\.", r"\1.1."),
    (r"^camera\.vtransform\.dtransform\.", "camera.view_transform.depth_encoder."),
    (r"^camera\.vtransform\.depthnet\.", "camera.view_transform.depth_net."),
    (r"^camera\.vtransform\.", "camera.view_transform."),
    (r"^radar\.backbone\.pts_voxel_encoder\.rfn_layers\.", "radar.pillar_net.layers."),
    (r"^radar\.backbone\.caliber\.(\d)\.", lambda m: f"radar.calibration.{int(m[1]) // 3}.{int(m[1]) % 3}."),
    (r"^radar\.backbone\.distill_activation_head\.", "radar.activation."),
    (r"^lidar\.backbone\.conv_input\.", "lidar.encoder.stem."),
    (r"^lidar\.backbone\.conv_out\.", "lidar.encoder.out."),
    (r"^lidar\.backbone\.encoder_layers\.encoder_layer(\d)\.", lambda m: f"lidar.encoder.stages.{int(m[1]) - 1}."),
    (r"^(lidar\.encoder\..*)\.bn(\d)\.", r"\1.norm\2."),
    (r"^(lidar\.encoder\.(?:stem|out|stages\.\d\.\d))\.0\.", r"\1.conv."),
    (r"^(lidar\.encoder\.(?:stem|out|stages\.\d\.\d))\.1\.", r"\1.norm."),
    (r"^fuser\.input_conv_sensor_1\.", "fuser.camera_gate."),
    (r"^fuser\.input_conv_sensor_2\.", "fuser.points_gate."),
    (r"^fuser\.output_fuser_conv_norm\.(\d)\.", r"fuser.fuse.\1."),
    (r"^fuser\.(\d)\.", r"fuser.conv.\1."),
    (r"^decoder\.backbone\.", "decoder.stages."),
    (r"^decoder\.neck\.fuse\.", "decoder.merge."),
    (r"^decoder\.neck\.upsample\.(\d)\.", lambda m: f"decoder.refine.{int(m[1]) - 1}."),
    (r"^heads\.object\.shared_conv\.conv\.", "head.shared.0."),
    (r"^heads\.object\.shared_conv\.bn\.", "head.shared.1."),
    (r"^heads\.object\.task_heads\.(\d)\.", r"head.tasks.\1.maps."),
    (r"^(head\.tasks\.\d\.maps\.\w+)\.1\.", r"\1.3."),
    (r"^(head\.tasks\.\d\.maps\.\w+)\.0\.conv\.", r"\1.0."),
    (r"^(head\.tasks\.\d\.maps\.\w+)\.0\.bn\.", r"\1.1."),
    (r"^(head\.tasks\.\d\.maps)\.reg\.", r"\1.offset."),
    (r"^(head\.tasks\.\d\.maps)\.dim\.", r"\1.log_size."),
    (r"^(head\.tasks\.\d\.maps)\.rot\.", r"\1.rotation."),
    (r"^(head\.tasks\.\d\.maps)\.vel\.", r"\1.velocity."),
    (r"^(head\.tasks\.\d\.maps)\.heatmap\.", r"\1.heatmap_logits."),
]
_GEOMETRY = re.compile(r"vtransform\.(dx|bx|nx|frustum)$")
_MAPS = {
    "heatmap_logits": "heatmap",
    "offset": "reg",
    "height": "height",
    "log_size": "dim",
    "rotation": "rot",
    "velocity": "vel",
}


@dataclass(frozen=True)
class GoldenCase:
    """One recorded case: its settings and its arrays by name."""

    config: dict
    arrays: dict[str, np.ndarray]

    def __getitem__(self, key: str) -> Tensor:
        array = self.arrays[key]
        return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array)

    def under(self, prefix: str) -> dict[str, Tensor]:
        """All arrays whose name starts with `prefix`, without it."""
        return {key.removeprefix(prefix): self[key] for key in self.arrays if key.startswith(prefix)}

    def list(self, prefix: str) -> list[Tensor]:
        """`prefix`0, `prefix`1, ... as long as there are any."""
        found = []
        while f"{prefix}{len(found)}" in self.arrays:
            found.append(self[f"{prefix}{len(found)}"])
        return found

    def rig(self) -> CameraRig:
        """The recorded calibration in our form."""
        return CameraRig(self["in/camera_intrinsics"][..., :3, :3], self["in/camera2lidar"], self["in/img_aug_matrix"])

    def head(self, prefix: str, **options: bool) -> HeadOutput:
        """Recorded head maps under `prefix`."""
        return HeadOutput(
            tuple(
                TaskOutput(**{ours: self[f"{prefix}task{t}/{theirs}"].requires_grad_(options.get("grad", False))
                              for ours, theirs in _MAPS.items()})
                for t in range(6)
            )
        )  # fmt: skip


@dataclass(frozen=True)
class TruncatingGrid(BEVGrid):
    """A grid as the released code reads it: one cell more below the lower borders falls into cell 0."""

    def locate(self, xy_m):
        cells = self.to_cells(xy_m).long()
        nx, ny = self.shape
        inside = (cells >= 0) & (cells < torch.tensor((nx, ny)))
        return cells, inside.all(-1)


def load_case(name: str) -> GoldenCase:
    """A recorded case; skips the test if it is not there."""
    path = FOLDER / "cases" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"the recorded case {name} is not beside the repository")
    with np.load(path) as arrays:
        return GoldenCase(json.loads(path.with_suffix(".json").read_text())["config"], dict(arrays))


def trained_shapes(name: str) -> list[tuple[int, ...]]:
    """Shapes of the trained parameters of a published full-size model."""
    path = FOLDER / "keys" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"the recorded keys of {name} are not beside the repository")
    recorded = json.loads(path.read_text())
    fixed = set(recorded["meta"]["buffers"]) | set(recorded["meta"]["not_trainable_parameters"])
    return [(key, tuple(shape)) for key, shape, *_ in recorded["keys"] if key not in fixed]


def our_key(published: str) -> str:
    """Our state-dict key of a published one (of a whole detector)."""
    for pattern, replacement in _RULES:
        published = re.sub(pattern, replacement, published)
    return published


def load_published(
    module: nn.Module, state: dict[str, Tensor], published_prefix: str = "", our_prefix: str = ""
) -> None:
    """Load recorded parameters into a part of a detector whose keys have these prefixes in the whole one."""
    renamed = {
        our_key(published_prefix + key).removeprefix(our_prefix): value
        for key, value in state.items()
        if not _GEOMETRY.search("vtransform." + key)
    }
    module.load_state_dict(renamed)


def boxes_from_released(tensor: Tensor) -> Boxes3D:
    """Boxes with bottom centres and the released yaw in our convention."""
    boxes = tensor.clone()
    boxes[:, 2] += boxes[:, 5] / 2
    boxes[:, 6] = -boxes[:, 6] - math.pi / 2
    return Boxes3D(boxes)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference relative to the largest recorded value."""
    assert ours.shape == theirs.shape
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12))
