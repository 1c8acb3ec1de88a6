"""The tables of a version of MAN TruckScenes, which are nuScenes' but for those of logs and maps."""

TABLES = (
    "scene",
    "sample",
    "sensor",
    "calibrated_sensor",
    "sample_data",
    "ego_pose",
    "category",
    "attribute",
    "visibility",
    "instance",
    "sample_annotation",
)
"""The tables that are read.

Of the three that nuScenes does not have, ``weather_annotation`` says less than the tags of a scene, and velocities of
the chassis and the cabin (``ego_motion_*``) are zero in many recordings: the ego poses tell how the truck moves.
"""
OWN_TABLE = "ego_motion_chassis"
"""One that only TruckScenes has."""
