"""Reading raw nuScenes: tables, sensor files, classes, splits."""
