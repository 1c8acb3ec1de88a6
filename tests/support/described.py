"""Descriptions that tests use: nuScenes', one of three classes and one of twelve."""

from crkd_core.config.description_files import known_description, nuscenes, validate_description

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
