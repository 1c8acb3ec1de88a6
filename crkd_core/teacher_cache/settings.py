"""Which settings decide teacher targets, and whether a teacher fits a configuration."""

from typing import Any

from crkd_core.artifacts.command import Command, command_like
from crkd_core.artifacts.location import quoted
from crkd_core.artifacts.run_config import CONFIG_NAME, read_run_config
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.distill import DistillConfig
from crkd_core.config.schema import Config
from crkd_core.errors import StaleArtifactError

STAGE = "extract-teacher"
_AUGMENTATION_KEYS = {"train_resize", "test_resize", "rotation_deg", "flip"}


def target_settings(config: Config) -> dict[str, Any]:
    """Everything in a configuration that determines teacher targets, besides teacher and data."""
    distill = config.distill
    return {
        "losses": list(distill.losses),
        "grid": config.data.grid.model_dump(mode="json"),
        "image": config.data.image.model_dump(mode="json"),
        "lidar": config.data.lidar.model_dump(mode="json"),
        "augmentation": config.data.augment_student.model_dump(mode="json"),
        "augment_images": config.data.augment_images,
        "seed": distill.targets.seed,
        "views": distill.targets.views,
        "storage": distill.targets.storage,
        **_loss_settings(distill),
    }


def _loss_settings(distill: DistillConfig) -> dict[str, Any]:
    msfd = distill.msfd.model_dump(mode="json", exclude={"camera_weight", "fused_weight", "adapter"})
    if "mask" in distill.released_quirks:
        msfd["mask"] = "released"
    of_losses: dict[str, tuple[str, Any]] = {
        "csrd": ("csrd", distill.csrd.model_dump(mode="json", include={"target", "reading"})),
        "msfd": ("msfd", msfd),
        "reld": ("reld_scales", list(distill.reld.scales)),
        "respd": ("respd_box_threshold", distill.respd.box_threshold),
    }
    return dict(of_losses[loss] for loss in distill.losses)


def check_teacher(teacher: Artifact, config: Config, command: Command | None) -> None:
    """Refuse a teacher that is damaged, or whose students see another area or other images.

    Raises:
        DamagedArtifactError: its weights or configuration changed since it was trained.
        StaleArtifactError: it was trained on another grid or images of another size.
    """
    teacher.verify(thorough=True)
    differing = input_difference(read_run_config(teacher), config)
    if differing is not None:
        key, found, expected = differing
        raise StaleArtifactError(
            f"the teacher {teacher.label} was trained with {key} = {found}, and this run asks for {expected}; use its "
            f"configuration (--config {quoted(teacher.file(CONFIG_NAME))}), or train another teacher with: "
            f"{command_like(command, 'crkd train-teacher --name NEW', teacher.root)}"
        )


def input_difference(trained: Config, asked: Config) -> tuple[str, object, object] | None:
    """Why a detector that was trained with one configuration cannot run with another: the first key of its BEV grid or
    images that differs, and its values in both; None where nothing does.
    """
    for section in ("grid", "image"):
        own, other = (getattr(config.data, section).model_dump(mode="json") for config in (trained, asked))
        for key in own:
            if own[key] != other[key] and key not in _AUGMENTATION_KEYS:
                return f"data.{section}.{key}", own[key], other[key]
    return None


# How images vary while training may differ between teacher and student; what the network takes in may not.
