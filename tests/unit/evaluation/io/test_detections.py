"""The detection table, and the submission as the devkit reads it."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from crkd_core.artifacts.manifest import Manifest
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.errors import DamagedArtifactError
from crkd_core.evaluation.io.detections import TABLE_NAME, Detections, read_detections, to_global, write_submission
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.transforms import rotations_from_quaternions
from crkd_core.models.decode import SampleDetections
from tests.support.described import NUSCENES
from tests.support.poses import pose

TILTED = pose([0.9, 0.05, -0.08, 0.42], [410.0, 1180.0, 1.9])


def some_detections(count: int, seed: int = 0) -> SampleDetections:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.rand((count, 9), generator=generator) * 4 + 0.5
    return SampleDetections(
        Boxes3D(tensor), torch.rand(count, generator=generator), torch.randint(0, 10, (count,), generator=generator)
    )


def test_table_gives_back_the_detections_best_first():
    detections = some_detections(7)
    table = Detections.collect(
        [("a", detections, TILTED), ("empty", some_detections(0), TILTED), ("b", detections, np.eye(4))], NUSCENES
    )
    order = detections.scores.argsort(descending=True)
    for token in ("a", "b"):
        back = table.sample(token)
        assert torch.equal(back.boxes.tensor, detections.boxes.tensor[order])
        assert torch.equal(back.scores, detections.scores[order])
        assert torch.equal(back.labels, detections.labels[order])
    assert len(table.sample("empty").boxes) == len(table.sample("unknown").boxes) == 0
    assert len(table) == 14


def test_at_most_500_boxes_the_best():
    detections = some_detections(620)
    table = Detections.collect([("a", detections, np.eye(4))], NUSCENES)
    assert len(table) == 500
    assert torch.equal(table.sample("a").scores, detections.scores.sort(descending=True).values[:500])


def test_global_boxes_go_through_the_full_rotation():
    yaw = 0.7
    box = Boxes3D(torch.tensor([[3.0, 20.0, -1.0, 2.0, 4.0, 1.5, yaw, 3.0, -2.0]], dtype=torch.float64))
    world = to_global(box, TILTED)
    assert np.allclose(world.translation[0], (TILTED @ [3.0, 20.0, -1.0, 1.0])[:3])
    length_axis = rotations_from_quaternions(world.rotation_wxyz[0]) @ [1.0, 0.0, 0.0]
    assert np.allclose(length_axis, TILTED[:3, :3] @ [math.cos(yaw), math.sin(yaw), 0.0])
    assert np.allclose(world.velocity[0], (TILTED[:3, :3] @ [3.0, -2.0, 0.0])[:2])


@pytest.mark.parametrize("quaternion", [[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0.5, 0.5, -0.5, 0.5]])
def test_rotations_by_half_a_turn_are_exact(quaternion):
    box = Boxes3D(torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]))
    world = to_global(box, pose(quaternion))
    expected = rotations_from_quaternions(np.array(quaternion, dtype=np.float64))
    assert np.allclose(rotations_from_quaternions(world.rotation_wxyz[0]), expected, atol=1e-12)


@pytest.mark.devkit
def test_devkit_reads_the_submission(tmp_path):
    from nuscenes.eval.common.loaders import load_prediction
    from nuscenes.eval.detection.data_classes import DetectionBox

    detections = some_detections(12)
    detections.boxes.tensor[3, 7:] = math.nan
    table = Detections.collect([("full", detections, TILTED)], NUSCENES)
    path = tmp_path / "submission.json"
    write_submission(path, table, ["first-empty", "full", "last-empty"], ("camera", "radar"))
    boxes, meta = load_prediction(str(path), 500, DetectionBox)
    assert meta == {
        "use_camera": True, "use_lidar": False, "use_radar": True, "use_map": False, "use_external": False,
    }  # fmt: skip
    assert set(boxes.sample_tokens) == {"first-empty", "full", "last-empty"}
    assert len(boxes["first-empty"]) == 0
    best = int(detections.scores.argmax())
    assert boxes["full"][0].detection_score == pytest.approx(float(detections.scores[best]))
    assert boxes["full"][0].size == pytest.approx(detections.boxes.size_wlh[best].tolist())
    assert "NaN" not in path.read_text()
    assert all(len(box.rotation) == 4 and abs(np.linalg.norm(box.rotation) - 1) < 1e-9 for box in boxes["full"])


def test_no_detections_at_all_is_valid_json(tmp_path):
    write_submission(tmp_path / "s.json", Detections.collect([], NUSCENES), ["a", "b"], ("camera",))
    assert json.loads((tmp_path / "s.json").read_text())["results"] == {"a": [], "b": []}


def test_a_table_with_other_columns_is_refused(tmp_path):
    write_table(tmp_path / TABLE_NAME, pa.table({"sample_token": ["a"]}))
    artifact = Artifact(tmp_path, Manifest(stage="evaluate", name="m-val", created="", command="crkd evaluate"))
    with pytest.raises(DamagedArtifactError, match=r"crkd evaluate .*--force"):
        read_detections(artifact)
