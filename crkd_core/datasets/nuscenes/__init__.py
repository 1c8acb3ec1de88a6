"""Reading nuScenes folders: tables, sensor files, classes and splits, in numpy and without the devkit's memory."""
