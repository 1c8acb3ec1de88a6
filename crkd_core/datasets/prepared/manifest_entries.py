"""What the manifest of prepared data says: settings that decide their contents, and facts about these."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.artifacts.described import description_settings
from crkd_core.artifacts.manifest import digest_of
from crkd_core.artifacts.prepared_format import FORMAT
from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.datasets.nuscenes.survey import Survey
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.data_report import DataReport


def prepared_settings(survey: Survey, radar_sweeps: int, lidar_sweeps: int) -> dict[str, Any]:
    """What decides the contents: the tables, the files that are there, and the sweeps of each sample."""
    source, missing = survey.source, survey.missing
    # Files that appear later must make another data set, so they belong to what determined this one.
    settings: dict[str, Any] = {
        "format": FORMAT,
        "version": source.version,
        "tables_sha256": source.digest,
        "radar_sweeps": radar_sweeps,
        "lidar_sweeps": lidar_sweeps,
        "missing": {"files": int(missing.absent.sum()), "sensors": missing.lines()},
        "classes": list(source.tables.description.class_names),
    }
    settings |= description_settings(source.tables.description)
    if source.splits.own:
        settings["splits"] = {name: list(scenes) for name, scenes in source.splits.own.items()}
    if not survey.kept.all():
        tokens = source.tables.samples.tokens
        settings["left_out_sha256"] = digest_of([tokens[row] for row in np.flatnonzero(~survey.kept)])
    if not survey.sizes_are_recorded:
        settings["image_sizes"] = survey.image_sizes
    if survey.lidar_format.columns != NUSCENES_COLUMNS:
        settings[preparing.LIDAR_COLUMNS] = survey.lidar_format.columns
    return settings


def prepared_facts(survey: Survey, report: DataReport, points: NDArray[np.int32]) -> dict[str, Any]:
    """What later stages and ``crkd status`` want to know without opening a file.

    Args:
        points: (S, R, L) radar points of every sweep.
    """
    source = survey.source
    return {
        "dataroot": str(source.dataroot.resolve()),
        "version": source.version,
        "samples_per_split": report.samples.per_split,
        "scenes": report.samples.scenes,
        "samples": len(points),
        "annotations": report.boxes.total,
        "annotations_of_other_categories": report.boxes.ignored,
        preparing.DEVKIT_DIFFERENCES: preparing.devkit_differences(source.tables, source.splits.of_scene),
        "radar_points": int(points.sum()),
        "image_sizes": survey.image_sizes,
        "lidar": not survey.missing.without_lidar,
        "missing": survey.missing.lines(),
        "left_out_per_split": report.samples.left_out_per_split,
        "own_splits": list(source.splits.own),
        "report": report.to_json(),
    }
