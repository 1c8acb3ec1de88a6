"""Which losses a student and a teacher of given sensors can have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from crkd_core.config.distill import DistillConfig
from crkd_core.config.models import DetectorConfig
from crkd_core.distillation.losses import build_terms
from crkd_core.distillation.term import DetectorMap, Requirement
from crkd_core.errors import ConfigError
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.lidar import LidarBranch


def check_terms(
    config: DistillConfig, grid: BEVGrid, student: DetectorConfig | None, teacher: DetectorConfig | None
) -> None:
    """Refuse losses that the sensors of student or teacher cannot give; None for a detector that is not known yet.

    Raises:
        ConfigError: naming the loss, what it needs, and how to leave it out.
    """
    for term in build_terms(config):
        for requirement in term.requires():
            _check_presence(requirement, student, teacher)
        for requirement in term.requires():
            if requirement.equal_widths and student is not None and teacher is not None:
                _check_widths(requirement, grid, student, teacher)


def _check_presence(requirement: Requirement, student: DetectorConfig | None, teacher: DetectorConfig | None) -> None:
    sides = (("student", student, requirement.student), ("teacher", teacher, requirement.teacher))
    for side, detector, needed in sides:
        if detector is not None and needed and not _MAPS[requirement.bev_map].present(detector):
            lack = _MAPS[requirement.bev_map].lack(side, detector)
            raise ConfigError(f"{requirement.subject}{lack}; {requirement.remedy}")


def _check_widths(requirement: Requirement, grid: BEVGrid, student: DetectorConfig, teacher: DetectorConfig) -> None:
    bev_map = _MAPS[requirement.bev_map]
    widths = [bev_map.channels(detector, grid) for detector in (student, teacher)]
    if widths[0] != widths[1]:
        of_student, of_teacher = (bev_map.origin(detector) for detector in (student, teacher))
        raise ConfigError(
            f"{requirement.subject} of equal width, found {widths[0]} channels in the student{of_student} and "
            f"{widths[1]} in the teacher{of_teacher}; make {bev_map.to_make_equal} equal, or {requirement.remedy}"
        )


def fused_channels(detector: DetectorConfig, grid: BEVGrid) -> int:
    """Channels of a detector's fused map: the fuser's, or those of its only branch."""
    if len(detector.modalities) > 1:
        return detector.fuser.channels
    if "camera" in detector.modalities:
        return detector.camera.view_transform.channels
    if "radar" in detector.modalities:
        return detector.radar.channels[-1]
    return _lidar_channels(detector, grid)


def _lidar_channels(detector: DetectorConfig, grid: BEVGrid) -> int:
    # The heights that the encoder leaves over follow from its strides; on the meta device it costs no memory.
    with torch.device("meta"):
        return LidarBranch(detector.lidar, grid).out_channels


def _modalities(detector: DetectorConfig) -> str:
    return ", ".join(detector.modalities)


@dataclass(frozen=True)
class _Map:
    """How a map shows in a detector's configuration.

    Attributes:
        present: whether the detector has it.
        channels: its width.
        lack: how a sentence goes on that says the student or teacher does not have it.
        origin: what explains the width, behind the detector's name.
        to_make_equal: the settings of the width.
    """

    present: Callable[[DetectorConfig], bool]
    channels: Callable[[DetectorConfig, BEVGrid], int]
    lack: Callable[[str, DetectorConfig], str]
    origin: Callable[[DetectorConfig], str] = lambda detector: ""
    to_make_equal: str = "them"


_MAPS: Mapping[DetectorMap, _Map] = {
    "camera": _Map(
        present=lambda detector: "camera" in detector.modalities,
        channels=lambda detector, grid: detector.camera.view_transform.channels,
        lack=lambda side, detector: f", but {side}.modalities are {_modalities(detector)}",
        to_make_equal="camera.view_transform.channels",
    ),
    "lidar": _Map(
        present=lambda detector: "lidar" in detector.modalities,
        channels=_lidar_channels,
        lack=lambda side, detector: f" needs lidar among {side}.modalities, found {_modalities(detector)}",
    ),
    "radar_activation": _Map(
        present=lambda detector: "radar" in detector.modalities and detector.radar.calibration,
        channels=lambda detector, grid: 1,
        lack=lambda side, detector: (
            f", which needs radar among {side}.modalities and {side}.radar.calibration, found {_modalities(detector)} "
            f"with calibration {detector.radar.calibration}"
        ),
    ),
    "fused": _Map(
        present=lambda detector: True,
        channels=fused_channels,
        lack=lambda side, detector: "",
        origin=lambda detector: f" ({_modalities(detector)})",
    ),
}
