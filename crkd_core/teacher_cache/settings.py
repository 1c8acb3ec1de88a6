"""Which settings decide teacher targets, and whether a teacher fits a configuration."""

from typing import Any

from crkd_core.artifacts.command import Command, command_like
from crkd_core.artifacts.location import quoted
from crkd_core.artifacts.run_config import CONFIG_NAME, read_run_config
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.schema import Config
from crkd_core.distillation.losses import target_settings as loss_settings
from crkd_core.errors import StaleArtifactError

STAGE = "extract-teacher"
# How images vary while training may differ between teacher and student; what the network takes in may not.
_AUGMENTATION_KEYS = {"train_resize", "test_resize", "rotation_deg", "flip"}
# Which views are stored, and how precisely, is the targets' own affair: a student replays the recorded ones.
_FREE_SETTINGS = {"losses", "views", "storage", "seed"}
_LEFT_OUT = "the default"


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
        **loss_settings(distill),
    }


def check_teacher(teacher: Artifact, config: Config, command: Command | None) -> None:
    """Refuse a teacher that is damaged, or whose students see another area or other images.

    Raises:
        DamagedArtifactError: its weights or configuration changed since it was trained.
        StaleArtifactError: it was trained on another grid or images of another size.
    """
    teacher.verify(thorough=True)
    differing = input_difference(read_run_config(teacher), config)
    if differing is not None:
        key, trained, expected = differing
        raise StaleArtifactError(
            f"the teacher {teacher.label} was trained with {key} = {trained}, and this run asks for {expected}; use "
            f"its configuration (--config {quoted(teacher.file(CONFIG_NAME))}), or train another teacher with: "
            f"{command_like(command, 'crkd train-teacher --name NEW', teacher.root)}"
        )


def input_difference(trained: Config, config: Config) -> tuple[str, object, object] | None:
    """Why a detector that was trained with one configuration cannot run with another: the first key of its BEV grid or
    images that differs, and its values in both; None where nothing does.
    """
    for section in ("grid", "image"):
        own, other = (getattr(side.data, section) for side in (trained, config))
        # Their dumps may leave out defaults.
        for key in type(own).model_fields:
            if getattr(own, key) != getattr(other, key) and key not in _AUGMENTATION_KEYS:
                return f"data.{section}.{key}", _as_written(getattr(own, key)), _as_written(getattr(other, key))
    return None


def _as_written(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def settings_problem(config: Config, targets: Artifact) -> str | None:
    """Why stored targets do not serve a student of this configuration; None where they do."""
    expected, stored = target_settings(config), targets.manifest.settings
    absent = [loss for loss in expected["losses"] if loss not in stored["losses"]]
    if absent:
        return (
            f"{targets.label} holds nothing for the losses {', '.join(absent)} (it has {', '.join(stored['losses'])})"
        )
    for key, value in expected.items():
        if key not in _FREE_SETTINGS and stored.get(key) != value:
            return (
                f"{targets.label} was made with other settings of {key}: expected "
                f"{first_difference(value, stored.get(key))}"
            )
    return None


def first_difference(expected: object, stored: object, path: str = "") -> str:
    """The first value that differs in two (nested) settings: what is expected of it, and what is stored."""
    if isinstance(expected, dict) and isinstance(stored, dict):
        for key in sorted(expected.keys() | stored.keys(), key=str):
            here, there = expected.get(key, _LEFT_OUT), stored.get(key, _LEFT_OUT)
            if here != there:
                return first_difference(here, there, f"{path}.{key}" if path else str(key))
    return f"{path + ' = ' if path else ''}{expected}, found {stored}"
