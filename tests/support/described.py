"""Descriptions that tests use, nuScenes', one of three classes and one of twelve, and models of a configuration."""

from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.run_config import CONFIG_NAME
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.description_files import known_description, nuscenes, validate_description
from crkd_core.config.loading import dump_config
from crkd_core.config.schema import Config
from crkd_core.training.trained import WEIGHTS_NAME

NUSCENES = nuscenes()
CLASSES = NUSCENES.class_names
TASKS = NUSCENES.head_tasks

TWELVE = known_description("truckscenes")
THREE = validate_description(
    {
        "name": "shuttle",
        "classes": {
            "person": {"range_m": 30, "nms_size_factor": 2.0, "unscored": ["attribute"]},
            "van": {
                "categories": ["vehicle.van", "vehicle.bus"],
                "attributes": ["moves", "stands"],
                "when_moving": "moves",
                "when_standing": "stands",
            },
            "pole": {"range_m": 20, "static": True, "half_turn": True, "unscored": ["velocity_mps", "attribute"]},
        },
        "tasks": [{"classes": ["person"], "circle_nms_m2": 0.5}, {"classes": ["van", "pole"]}],
        "cameras": ["FRONT", "LEFT", "RIGHT", "REAR"],
        "lidars": ["TOP"],
        "evaluation": {"class_order": ["van", "person", "pole"]},
    }
)


def add_model(workspace: Workspace, stage: str, name: str, config: Config) -> None:
    """A finished model of a configuration, whose file of weights is empty."""
    role = "teacher" if stage == "train-teacher" else "student"
    detector = getattr(config, role).model_dump(mode="json")
    settings = {"role": role, "detector": detector, "data": config.data.model_dump(mode="json")}
    with workspace.write(ArtifactRequest(stage, name, f"crkd {stage} --name {name}", settings)) as writer:
        write_text(writer.path / CONFIG_NAME, dump_config(config))
        write_text(writer.path / WEIGHTS_NAME, "")
        writer.finish()
