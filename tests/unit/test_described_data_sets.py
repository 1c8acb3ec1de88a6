"""A data set of three classes and one of twelve go through head, losses, decoding, metrics and pictures."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from crkd_core.config.loading import load_config, validate_config
from crkd_core.config.models import HeadConfig, NMSConfig
from crkd_core.data.pasting import missing_objects
from crkd_core.data.sampling import class_balanced_indices
from crkd_core.distillation.respd import respd_loss, teacher_response
from crkd_core.errors import ConfigError
from crkd_core.evaluation.diagnose import Evidence, diagnose
from crkd_core.evaluation.io.detections import Detections
from crkd_core.evaluation.nuscenes.attributes import attribute_names
from crkd_core.evaluation.nuscenes.filtering import is_evaluated
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.nuscenes.official import metrics_without_detections
from crkd_core.evaluation.statistics.bootstrap import draw_scenes, score_slices
from crkd_core.evaluation.statistics.breakdown import breakdown_table
from crkd_core.evaluation.statistics.slices import find_slices
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.geometry.transforms import rigid_transforms
from crkd_core.models.decode import SampleDetections, decode_detections
from crkd_core.models.detection_loss import detection_loss
from crkd_core.models.detector import build_detector
from crkd_core.models.head import CenterHead
from crkd_core.models.head_targets import build_head_targets
from crkd_core.models.outputs import HeadOutput, TaskOutput
from crkd_core.visualization.evaluation_curves import draw_score_curves
from crkd_core.visualization.figure import write_picture
from crkd_core.visualization.views import CameraView, LabelledBoxes, ModelView, SampleView
from tests.support.described import NUSCENES, THREE, TWELVE
from tests.support.evaluation_cases import Case, everything, scenes_of, scoring_of

GRID = BEVGrid((-32.0, 32.0), (-32.0, 32.0), (-5.0, 3.0), 0.8)
DESCRIPTIONS = pytest.mark.parametrize("description", [NUSCENES, THREE, TWELVE], ids=lambda value: value.name)


def one_of_each(description):
    """A box of every class, 6 m apart."""
    count = len(description.classes)
    rows = torch.tensor([[6.0 * (index % 8) - 22, 6.0 * (index // 8) - 7, -1.0] for index in range(count)])
    size_yaw_velocity = torch.tensor([0.6, 0.8, 1.7, 0.4, 1.0, 0.0]).expand(count, 6)
    return Boxes3D(torch.cat([rows, size_yaw_velocity], dim=1)), torch.arange(count)


def maps_of(targets) -> HeadOutput:
    """What a head says that has learned its targets."""
    tasks = []
    for task in targets.tasks:
        batch, _, *shape = task.heatmap.shape
        regression = torch.zeros(batch, 10, shape[0] * shape[1])
        regression.scatter_(2, task.cells[:, None].expand(-1, 10, -1), task.boxes.transpose(1, 2))
        parts = regression.view(batch, 10, *shape).split([2, 1, 3, 2, 2], dim=1)
        tasks.append(TaskOutput(task.heatmap.clamp(1e-4, 1 - 1e-4).logit(), *parts))
    return HeadOutput(tuple(tasks))


@DESCRIPTIONS
def test_what_a_head_is_taught_is_what_it_detects(description):
    boxes, labels = one_of_each(description)
    tasks = description.head_tasks
    targets = build_head_targets([boxes], [labels], GRID, HeadConfig(), tasks)
    head = maps_of(targets)
    nms = NMSConfig(
        circle_classes=description.circle_nms_m2, size_factors=description.nms_size_factors, score_threshold=0.5
    )
    (detections,) = decode_detections(head, GRID, nms, tasks)
    assert sorted(detections.labels.tolist()) == labels.tolist()
    by_label = detections.boxes.tensor[detections.labels.argsort()]
    assert torch.allclose(by_label, boxes.tensor, atol=1e-4)
    terms = detection_loss(head, targets, HeadConfig())
    assert list(terms) == [f"{kind}/{classes[0]}" for classes in tasks for kind in ("heatmap", "box")]
    assert all(float(terms[f"box/{classes[0]}"]) < 1e-4 for classes in tasks)


@DESCRIPTIONS
def test_a_head_has_a_heatmap_for_every_class(description):
    head = CenterHead(8, 8, 8, -2.0, description.head_tasks)(torch.zeros(1, 8, 4, 4))
    assert [task.heatmap_logits.shape[1] for task in head.tasks] == list(map(len, description.head_tasks))


@DESCRIPTIONS
def test_response_distillation_weighs_the_tasks_of_the_data_set(description):
    section = described_config(description).distill.respd
    boxes, labels = one_of_each(description)
    head = maps_of(build_head_targets([boxes], [labels], GRID, HeadConfig(), description.head_tasks))
    blank = HeadOutput(tuple(replace(task, heatmap_logits=task.heatmap_logits * 0 - 4) for task in head.tasks))
    response = teacher_response(head, section)
    assert section.task_weights == description.response_weights
    assert float(respd_loss(head, response, section)) == pytest.approx(0.0, abs=1e-4)
    assert float(respd_loss(blank, response, section)) > 1.0
    with pytest.raises(ConfigError, match="one weight per head task"):
        respd_loss(head, response, section.model_copy(update={"task_weights": (1.0,)}))


def described_config(description):
    values = load_config("tiny").model_dump(mode="json", exclude_unset=True)
    return validate_config({**values, "dataset": description.model_dump(mode="json")})


@DESCRIPTIONS
def test_a_configuration_takes_what_it_does_not_say_from_the_description(description):
    config = described_config(description)
    for detector in (config.teacher, config.student):
        assert detector.head.nms.circle_classes == description.circle_nms_m2
        assert detector.head.nms.size_factors == description.nms_size_factors
    assert config.data.paste_teacher.objects == description.pasted_objects
    assert validate_config(config.model_dump(mode="json")) == config
    heatmaps = [
        len(tensor)
        for name, tensor in build_detector(config.student, config.data, description.head_tasks).state_dict().items()
        if name.endswith("heatmap_logits.3.bias")
    ]
    assert heatmaps == list(map(len, description.head_tasks))


@DESCRIPTIONS
def test_samples_are_balanced_over_the_classes_of_the_data_set(description):
    count = len(description.classes)
    drawn = class_balanced_indices([np.array([label]) for label in range(count)], count, np.random.default_rng(0))
    assert sorted(drawn.tolist()) == list(range(count))
    missing = missing_objects(torch.zeros(1, dtype=torch.long), description.pasted_objects, description.class_names)
    assert len(missing) == count - (description.pasted_objects[description.class_names[0]] == 1)


@DESCRIPTIONS
def test_detections_are_written_with_the_names_of_the_data_set(description):
    boxes, labels = one_of_each(description)
    detections = SampleDetections(boxes, torch.linspace(0.9, 0.5, len(labels)), labels)
    table = Detections.collect([("sample", detections, np.eye(4))], description).table
    assert table["class_name"].to_pylist() == list(description.class_names)
    doc = table.schema.field("label").metadata[b"doc"].decode()
    assert doc.split()[-3] == {3: "three", 10: "ten", 12: "twelve"}[len(description.classes)]
    moving = attribute_names(labels.numpy(), np.tile([1.0, 0.0], (len(labels), 1)), description)
    assert moving == [entry.when_moving or "" for entry in description.classes.values()]


@DESCRIPTIONS
def test_metrics_and_statistics_are_of_the_classes_of_the_data_set(description, tmp_path):
    detections, gt = Case(seed=3, gt=120, detections=240, description=description).build()
    scoring = scoring_of(detections, gt, description)
    metrics = scoring.metrics
    assert tuple(metrics.classes) == description.class_names
    assert list(metrics.to_json()["label_aps"]) == list(description.evaluated_classes)
    assert Metrics.from_json(metrics.to_json(strict=True), description).mean_ap == metrics.mean_ap
    for name, entry in description.classes.items():
        undefined = {error for error, value in vars(metrics.classes[name].errors).items() if np.isnan(value)}
        assert undefined == set(entry.unscored)
    scenes = scenes_of(scoring)
    scores = score_slices(scoring, [everything(scoring)], scenes, draw_scenes(len(scenes), 5))
    assert scores.mean_ap[0, 0] == pytest.approx(metrics.mean_ap)
    assert scores.nds[0, 0] == pytest.approx(metrics.nds)
    rows = breakdown_table(scores)
    assert isinstance(rows, pa.Table)
    assert rows["class"].to_pylist() == ["all", *description.class_names]
    ranges = [part.name for part in find_slices(scoring, scenes) if part.kind == "range"]
    assert ranges[-1].endswith(f"-{description.farthest_m:g}")
    diagnose(Evidence(scoring, np.tile(np.eye(2), (len(scoring.samples.tokens), 1, 1))))
    draw_score_curves(tmp_path, "model", scoring)
    nothing = metrics_without_detections(description)
    assert nothing.nds == 0.0


@DESCRIPTIONS
def test_boxes_count_up_to_the_range_of_their_class(description):
    count = len(description.classes)
    _, gt = Case(seed=0, gt=2 * count, detections=0, samples=1, description=description).build()
    ranges = np.array([entry.range_m for entry in description.classes.values()])
    label = np.tile(np.arange(count), 2).astype(np.int8)
    distance = np.concatenate([ranges - 0.5, ranges + 0.5])
    boxes = replace(gt, label=label, ego_distance=distance)
    assert is_evaluated(boxes, scoring_of(gt[:0], gt, description).samples).tolist() == [True] * count + [False] * count


FORWARD = rigid_transforms(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]), np.zeros(3))
INTRINSICS = np.array([[160.0, 0.0, 160.0], [0.0, 160.0, 90.0], [0.0, 0.0, 1.0]])


@DESCRIPTIONS
def test_pictures_show_the_cameras_and_classes_of_the_data_set(description, tmp_path):
    boxes, labels = one_of_each(description)
    shown = LabelledBoxes(boxes, labels.numpy())
    detected = LabelledBoxes(boxes, labels.numpy(), np.full(len(labels), 0.8, dtype=np.float32))
    image = np.full((180, 320, 3), 60, dtype=np.uint8)
    cameras = tuple(CameraView(channel, image, INTRINSICS, FORWARD) for channel in description.cameras)
    sample = SampleView("token", "scene", "", 40.0, shown, description, cameras, models=(ModelView("m", detected),))
    write_picture(tmp_path / "picture.png", sample)
    with Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for name, colour in description.colours.items():
        value = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])
        assert (np.abs(pixels - value).max(axis=-1) < 30).sum() > 20, name
