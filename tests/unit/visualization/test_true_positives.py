"""True positives of a picture."""

import numpy as np
import torch

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.visualization.true_positives import match_detections
from crkd_core.visualization.views import LabelledBoxes


def boxes_at(positions, labels, scores=None):
    tensor = torch.zeros((len(positions), 9))
    tensor[:, :2] = torch.tensor(positions, dtype=torch.float32).reshape(-1, 2)
    tensor[:, 3:6] = 1.0
    return LabelledBoxes(
        Boxes3D(tensor), np.array(labels), None if scores is None else np.array(scores, dtype=np.float32)
    )


def test_the_best_score_takes_the_object():
    gt = boxes_at([(0, 0), (20, 0)], [0, 0])
    matches = match_detections(boxes_at([(0.1, 0), (0.9, 0), (21.9, 0)], [0, 0, 0], [0.4, 0.8, 0.5]), gt)
    assert matches.is_tp.tolist() == [False, True, True]
    assert matches.is_missed.tolist() == [False, False]


def test_class_and_distance_count():
    gt = boxes_at([(0, 0), (20, 0)], [0, 3])
    matches = match_detections(boxes_at([(0, 0), (22.1, 0)], [1, 3], [0.9, 0.9]), gt)
    assert matches.is_tp.tolist() == [False, False]
    assert matches.is_missed.tolist() == [True, True]


def test_a_taken_object_leaves_the_next_nearest():
    gt = boxes_at([(0, 0), (1.5, 0)], [0, 0])
    matches = match_detections(boxes_at([(0.2, 0), (0.3, 0)], [0, 0], [0.9, 0.8]), gt)
    assert matches.is_tp.tolist() == [True, True]
    assert matches.is_missed.tolist() == [False, False]


def test_nothing_to_match():
    some = boxes_at([(0, 0)], [0], [0.5])
    assert match_detections(LabelledBoxes.empty(), some).is_missed.tolist() == [True]
    assert match_detections(some, LabelledBoxes.empty()).is_tp.tolist() == [False]
