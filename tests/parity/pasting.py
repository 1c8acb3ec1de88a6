"""Pasting objects of a database into a sample."""

import torch

from crkd_core.data.pasting import LidarObjects, missing_objects, paste_objects
from crkd_core.geometry.boxes import Boxes3D
from tests.parity.cases import GoldenCase
from tests.parity.comparison import Comparison
from tests.parity.released import boxes_from_released, boxes_to_released
from tests.support.described import CLASSES


def run_object_paste(comparison: Comparison) -> None:
    """What is asked of the database, and the sample with those of the recorded draws that find a place."""
    case = comparison.case
    settings = case.config
    boxes, labels = boxes_from_released(case["in/gt_boxes"]), case["in/gt_labels"]
    pastes = settings.get("epoch", 0) < settings["stop_epoch"]
    missing = missing_objects(labels, settings["sample_groups"], CLASSES) if pastes else []
    named = [[CLASSES[label], number] for label, number in missing]
    comparison.require("config/draws", named == settings["draws"], f"we would draw {named}")

    database, least = _database(case), settings["min_points"]["filter_by_min_points"]
    draws = []
    for index, (name, number) in enumerate(named):
        ids = case[f"in/draw{index}/ids"]
        drawn = database[ids]
        draws.append(drawn)
        allowed = len(drawn.with_points(least.get(name, 0))) == len(drawn) == len(ids.unique()) <= number
        allowed &= bool((drawn.labels == CLASSES.index(name)).all())
        comparison.require(f"in/draw{index}/ids", allowed, "we would not draw these")
    points, pasted, pasted_labels = paste_objects(case["in/points"].numpy(), boxes, labels, draws)
    comparison.check("out/points", points)
    comparison.check("out/gt_boxes", boxes_to_released(pasted, case["out/gt_boxes"][:, 6]))
    comparison.check("out/gt_labels", pasted_labels)


def _database(case: GoldenCase) -> LidarObjects:
    """The recorded objects; their points are given relative to the middle of the floor of their box."""
    recorded = [torch.from_numpy(box) for box in case.series_of("in/db", "/box")]
    points = case.series_of("in/db", "/points")
    placed = []
    for box, of_box in zip(recorded, points, strict=True):
        moved = torch.from_numpy(of_box).clone()
        moved[:, :3] += box[:3]
        placed.append(moved.numpy())
    labels = torch.tensor([int(label) for label in case.series_of("in/db", "/label")], dtype=torch.long)
    boxes = boxes_from_released(torch.stack(recorded)) if recorded else Boxes3D.empty()
    return LidarObjects(boxes, labels, placed)
