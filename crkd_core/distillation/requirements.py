"""Which loss terms a student and a teacher of given sensors can have."""

import torch

from crkd_core.config.distill import DistillConfig
from crkd_core.config.models import DetectorConfig
from crkd_core.distillation.targets import needed_terms
from crkd_core.errors import ConfigError
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.lidar import LidarBranch


def check_terms(
    config: DistillConfig, grid: BEVGrid, student: DetectorConfig | None, teacher: DetectorConfig | None
) -> None:
    """Refuse terms that the sensors of student or teacher cannot give; None for a detector that is not known yet.

    RelD compares relations between cells and RespD predictions: any two detectors on one grid can have them. CSRD
    needs a student with a calibrated radar, MSFD maps of equal width: of a camera in both, and of the fused maps.

    Raises:
        ConfigError: naming the term, what it needs, and how to leave it out.
    """
    terms = needed_terms(config)
    if "csrd" in terms and student is not None and not ("radar" in student.modalities and student.radar.calibration):
        raise ConfigError(
            "csrd teaches the radar activation, which needs radar among student.modalities and "
            f"student.radar.calibration, found {', '.join(student.modalities)} with calibration "
            f"{student.radar.calibration}; set these, or take csrd out of distill.losses"
        )
    wants_lidar = "csrd" in terms and config.csrd.target == "lidar_feature"
    if wants_lidar and teacher is not None and "lidar" not in teacher.modalities:
        raise ConfigError(
            "distill.csrd.target=lidar_feature needs lidar among teacher.modalities, found "
            f"{', '.join(teacher.modalities)}; use the target heatmap"
        )
    for name, detector in (("student", student), ("teacher", teacher)):
        if "msfd_camera" in terms and detector is not None and "camera" not in detector.modalities:
            raise ConfigError(
                f"msfd compares camera maps, but {name}.modalities are {', '.join(detector.modalities)}; "
                "set distill.msfd.camera_weight to 0"
            )
    if student is not None and teacher is not None:
        _check_widths(terms, grid, student, teacher)


def _check_widths(terms: tuple[str, ...], grid: BEVGrid, student: DetectorConfig, teacher: DetectorConfig) -> None:
    ours, theirs = (detector.camera.view_transform.channels for detector in (student, teacher))
    if "msfd_camera" in terms and ours != theirs:
        raise ConfigError(
            f"msfd compares camera maps of equal width, found {ours} channels in the student and {theirs} in the "
            "teacher; make camera.view_transform.channels equal, or set distill.msfd.camera_weight to 0"
        )
    ours, theirs = (fused_channels(detector, grid) for detector in (student, teacher))
    if "msfd_fused" in terms and ours != theirs:
        raise ConfigError(
            f"msfd compares fused maps of equal width, found {ours} channels in the student "
            f"({', '.join(student.modalities)}) and {theirs} in the teacher ({', '.join(teacher.modalities)}); make "
            "them equal, or set distill.msfd.fused_weight to 0"
        )


def fused_channels(detector: DetectorConfig, grid: BEVGrid) -> int:
    """Channels of a detector's fused map: the fuser's, or those of its only branch."""
    if len(detector.modalities) > 1:
        return detector.fuser.channels
    if "camera" in detector.modalities:
        return detector.camera.view_transform.channels
    if "radar" in detector.modalities:
        return detector.radar.channels[-1]
    # The heights that the encoder leaves over follow from its strides; on the meta device it costs no memory.
    with torch.device("meta"):
        return LidarBranch(detector.lidar, grid).out_channels
