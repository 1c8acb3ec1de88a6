"""nuScenes result files for the commands that read them."""

import json
from pathlib import Path
from typing import Any

from crkd_core.artifacts.workspace import Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from tests.support.described import CLASSES


def prepared_of(workspace: Workspace) -> PreparedData:
    return PreparedData(workspace.find("prepare", needed_for="test", make=""))


def perfect_results(prepared: PreparedData, split: str = "val") -> dict[str, Any]:
    """A result file's contents with every object of a split that the benchmark counts: those with a point inside."""
    results = {}
    for token in prepared.tokens(split):
        annotations = prepared.annotations(token)
        results[token] = [
            {
                "sample_token": token,
                "translation": annotations.translation[i].tolist(),
                "size": annotations.size_wlh[i].tolist(),
                "rotation": annotations.rotation[i].tolist(),
                "velocity": [0.5, 0.25],
                "detection_name": CLASSES[annotations.labels[i]],
                "detection_score": 0.5 + i / 1000,
                "attribute_name": annotations.attributes[i],
            }
            for i in range(len(annotations))
            if annotations.lidar_points[i] + annotations.radar_points[i] > 0
        ]
    meta = {"use_camera": True, "use_lidar": False, "use_radar": False, "use_map": False, "use_external": True}
    return {"meta": meta, "results": results}


def write_results(path: Path, results: dict[str, Any]) -> Path:
    path.write_text(json.dumps(results))
    return path
