"""Reading any detector's result file: what is in it, scored as the devkit scores it; and nothing else gets through."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from crkd_core.errors import UsageError
from crkd_core.evaluation.io.detections import Detections, to_global, to_model_frame, write_submission
from crkd_core.evaluation.io.results_file import Results, read_results
from crkd_core.evaluation.nuscenes.official import evaluate_official, require_equal
from crkd_core.evaluation.nuscenes.scoring import score_detections
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.decode import SampleDetections
from crkd_core.progress import SilentProgress
from tests.support.described import CLASSES, NUSCENES
from tests.support.poses import pose
from tests.support.random_world import WorldCase, prepare_world, write_random_world
from tests.support.tiny_world import SPLIT, VERSION, write_results, write_tiny_world

TILTED = pose([0.9, 0.05, -0.08, 0.42], [410.0, 1180.0, 1.9])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A prepared data set of three samples, and its annotated objects as result boxes."""
    root = tmp_path_factory.mktemp("tiny")
    boxes = write_tiny_world(root)
    return prepare_world(root, root / "prepared"), boxes


def read(path: Path, prepared) -> Results:
    return read_results(path, prepared, SPLIT, SilentProgress())


def test_our_submission_comes_back(world, tmp_path):
    prepared, _ = world
    generator = torch.Generator().manual_seed(0)
    samples = []
    for token in prepared.tokens(SPLIT)[:2]:
        boxes = Boxes3D(torch.rand((20, 9), generator=generator) * 4 + 0.5)
        labels = torch.randint(0, 10, (20,), generator=generator)
        detections = SampleDetections(boxes, torch.rand(20, generator=generator), labels)
        samples.append((token, detections, prepared.global_from_lidar(token)))
    written = Detections.collect(samples, NUSCENES)
    path = tmp_path / "submission.json"
    write_submission(path, written, prepared.tokens(SPLIT), ("camera", "radar"))
    results = read(path, prepared)
    assert results.tokens == tuple(prepared.tokens(SPLIT))
    assert results.modalities == ("camera", "radar")
    for name in ("sample_token", "label", "class_name", "attribute", "global_translation", "global_velocity"):
        assert results.table[name].to_pylist() == written.table[name].to_pylist()
    assert results.table["score"].to_pylist() == written.table["score"].to_pylist()
    for token, detections, _ in samples:
        back = Detections(results.table).sample(token)
        assert torch.allclose(
            back.boxes.wrapped().tensor,
            detections.boxes[detections.scores.argsort(descending=True)].wrapped().tensor,
            atol=1e-4,
        )


def test_model_frame_undoes_the_global_frame():
    values = torch.rand((30, 9), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 6 - 2.5
    flat = pose([0.8, 0.0, 0.0, -0.6], [410.0, 1180.0, 1.9])
    for global_from_lidar, tolerance in ((flat, 1e-9), (TILTED, 0.3)):
        back = to_model_frame(to_global(Boxes3D(values), global_from_lidar), values[:, 3:6].numpy(), global_from_lidar)
        np.testing.assert_allclose(back[:, :6], values[:, :6], atol=1e-9)
        # What points up in the world is lost: a tilted car sees less of the velocity.
        np.testing.assert_allclose(back[:, 7:], values[:, 7:], atol=tolerance)
        np.testing.assert_allclose(np.cos(back[:, 6] - values[:, 6].numpy()), 1, atol=tolerance / 10)


@pytest.mark.devkit
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_the_devkits_on_the_same_file(seed, tmp_path):
    root = tmp_path / "world"
    detections = write_random_world(root, WorldCase(seed=seed, score_step=0.1)).to_pylist()
    prepared = prepare_world(root, root / "prepared")
    rng = random.Random(seed)
    tokens = list(prepared.tokens(SPLIT))
    rng.shuffle(tokens)
    boxes = [
        {
            "sample_token": row["sample_token"],
            "translation": row["global_translation"],
            "size": [side * 1.0000001 for side in row["box"][3:6]],
            "rotation": [3 * value for value in row["global_rotation"]],
            "velocity": list(row["global_velocity"]),
            "detection_name": row["class_name"],
            "detection_score": row["score"] + rng.choice([0.0, 1e-12]),
            "attribute_name": row["attribute"],
        }
        for row in detections
    ]
    rng.shuffle(boxes)
    results = {token: [box for box in boxes if box["sample_token"] == token] for token in tokens}
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"meta": {}, "results": results}))
    read_back = read(path, prepared)
    assert read_back.tokens == tuple(tokens)
    scoring = score_detections(prepared, read_back.tokens, read_back.table)
    assert scoring.metrics.mean_ap > 0
    require_equal(scoring.metrics, evaluate_official(NUSCENES, root, VERSION, SPLIT, path, SilentProgress()))


@pytest.mark.parametrize("style", ["indented", "compact", "meta last", "ascii escapes", "whole numbers"])
def test_any_way_of_writing_json(world, tmp_path, style):
    prepared, boxes = world
    expected = read(write_results(tmp_path / "plain.json", boxes), prepared)
    value = json.loads((tmp_path / "plain.json").read_text())
    text = {
        "indented": json.dumps(value, indent="\t").replace("\n", "\r\n"),
        "compact": json.dumps(value, separators=(",", ":")),
        "meta last": json.dumps({"results": value["results"], "more": [1], "meta": value["meta"]}),
        "ascii escapes": json.dumps(value)
        .replace("sample_token", "sample\\u005ftoken")
        .replace("sample0", "s\\u0061mple0"),
        "whole numbers": json.dumps(value).replace(".0,", ",").replace(".0]", "]"),
    }[style]
    assert text != (tmp_path / "plain.json").read_text()
    (tmp_path / "other.json").write_text(text)
    actual = read(tmp_path / "other.json", prepared)
    assert actual.table.equals(expected.table)
    assert actual.modalities == ("camera",)


def test_no_boxes_at_all(world, tmp_path):
    results = read(write_results(tmp_path / "none.json", []), world[0])
    assert len(results.table) == 0
    assert len(results.tokens) == 3


def test_every_truncated_or_altered_file_is_a_usage_error_or_fine(world, tmp_path):
    prepared, boxes = world
    data = write_results(tmp_path / "whole.json", boxes[:4]).read_bytes()
    path, rng = tmp_path / "broken.json", random.Random(0)
    for end in range(0, len(data) - 1, 23):
        path.write_bytes(data[:end])
        with pytest.raises(UsageError, match="expected a nuScenes result file"):
            read(path, prepared)
    refused = 0
    for _ in range(300):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] = rng.choice(b'{}[]":,0-eNx\xff')
        path.write_bytes(changed)
        try:
            read(path, prepared)
        except UsageError:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("translation", [1.0, 2.0], "expected 3 finite numbers"),
        ("translation", "abc", "has the translation 'abc'"),
        ("size", [1.0, True, 1.0], "has the size"),
        ("size", [1.0, 0.0, 1.0], "above 0"),
        ("rotation", [0.0, 0.0, 0, 0.0], "not one of length 0"),
        ("rotation", [1e200, 0.0, 0.0, 0.0], "unit quaternion"),
        ("rotation", {"w": 1, "x": 0, "y": 0, "z": 0}, "has the rotation"),
        ("velocity", [math.inf, 0.0], "has the velocity [inf, 0.0]"),
        ("velocity", None, "has the velocity None"),
        ("detection_score", math.inf, "has the detection_score inf"),
        ("detection_score", 10**400, "has the detection_score 1000"),
        ("detection_score", "0.5", "has the detection_score '0.5'"),
        ("detection_name", "tram", f"expected {CLASSES[0]!r}"),
        ("detection_name", ["car"], "has the detection_name"),
        ("attribute_name", "vehicle.flying", "'vehicle.moving'"),
        ("attribute_name", None, "has the attribute_name None"),
        ("sample_token", "sample1", "expected that of the list it is in"),
        ("sample_token", ["sample0"], "expected that of the list it is in"),
    ],
)
def test_a_box_that_is_refused(world, tmp_path, field, value, words):
    prepared, boxes = world
    path = tmp_path / "results.json"
    results = {f"sample{i}": [] for i in range(3)} | {"sample0": [boxes[0], {**boxes[1], field: value}]}
    path.write_text(json.dumps({"meta": {}, "results": results}))
    with pytest.raises(UsageError) as raised:
        read(path, prepared)
    assert "box 2 of the sample sample0" in str(raised.value)
    assert words in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("missing", ["velocity", "detection_name", "sample_token", "attribute_name"])
def test_a_box_without_a_field(world, tmp_path, missing):
    prepared, boxes = world
    box = {name: value for name, value in boxes[0].items() if name != missing}
    (tmp_path / "r.json").write_text(json.dumps({"meta": {}, "results": {"sample0": [box]}}))
    with pytest.raises(UsageError, match=f"has no '{missing}'"):
        read(tmp_path / "r.json", prepared)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "begins with '['"),
        ('{"meta": {}, "results": []}', "are a list"),
        ('{"meta": {}, "results": null}', "are null"),
        ('{"meta": [], "results": {}}', '"meta" is a list'),
        ('{"meta": {}, "meta": {}}', "'meta' twice"),
        ('{"meta": {}}', 'no "results"'),
        ('{"meta": {}, "results": {"sample0": {}}}', "has an object where a list"),
        ('{"meta": {}, "results": {"sample0": [7]}}', "is a number; expected an object"),
        ('{"meta": {}, "results": {"sample0": [], "sample0": []}}', "sample0 twice"),
        ('{"meta": {}, "results": {}} {}', "more follows"),
        ('{"meta": {}, "results": {"sample0": ' + "[" * 200_000, "nested too deeply"),
        ('{"meta": ' + "9" * 5000 + "}", "exceeds the limit"),
    ],
)
def test_another_structure_is_refused(world, tmp_path, text, words):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(UsageError) as raised:
        read(tmp_path / "r.json", world[0])
    assert words in str(raised.value)
