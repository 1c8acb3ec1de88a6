"""The legend names what occurs in a picture, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.visualization.figure import WIDTH_PX, render_sample
from crkd_core.visualization.legend import Legend, legend_of
from crkd_core.visualization.views import LabelledBoxes, ModelView, SampleView


def boxes(positions, labels, speed=0.0, scores=None):
    rows = [[x, y, 0.0, 2.0, 4.0, 2.0, 0.0, speed, 0.0] for x, y in positions]
    tensor = torch.tensor(rows, dtype=torch.float32).reshape(-1, 9)
    return LabelledBoxes(Boxes3D(tensor), np.array(labels, dtype=np.int64), scores)


def scored(positions, labels):
    return boxes(positions, labels, scores=np.full(len(labels), 0.6, dtype=np.float32))


GT = boxes([(10, 10), (-10, 10)], [0, 8])
BARE = SampleView("token", "scene", "", 50.0, GT)


def names(sample):
    legend = legend_of(sample)
    return [entry.label for entry in legend.classes], [entry.label for entry in legend.marks]


def test_only_classes_that_occur():
    assert names(BARE)[0] == ["car", "pedestrian"]
    stray = ModelView("m", scored([(30, 30)], [2]))
    assert names(replace(BARE, models=(stray,)))[0] == ["car", "construction vehicle", "pedestrian"]
    assert names(replace(BARE, gt=boxes([], [])))[0] == []


def test_only_marks_that_occur():
    always = ["own car, driving up"]
    assert names(replace(BARE, gt=boxes([], [])))[1] == always
    heading = ["heading: line to the front", *always]
    assert names(BARE)[1] == heading
    perfect = replace(BARE, models=(ModelView("m", scored([(10, 10), (-10, 10)], [0, 8])),))
    assert names(perfect)[1] == ["found (within 2 m)", "fainter: lower score", *heading]
    blind = replace(BARE, models=(ModelView("m", LabelledBoxes.empty()),))
    assert names(blind)[1] == ["missed", *heading]
    wrong = replace(BARE, models=(ModelView("m", scored([(30, 30)], [0])),))
    assert names(wrong)[1] == ["false alarm", "missed", "fainter: lower score", *heading]


def test_sensors_motion_and_rings():
    radar = np.array([[5.0, 5.0, 0.0, 0.0]], dtype=np.float32)
    assert names(replace(BARE, radar=radar))[1][-1] == "radar point"
    assert "motion in 0.5 s" not in names(replace(BARE, radar=radar))[1]
    assert "motion in 0.5 s" in names(replace(BARE, radar=radar + 1))[1]
    assert "motion in 0.5 s" in names(replace(BARE, gt=boxes([(0, 9)], [0], speed=3.0)))[1]
    assert "motion in 0.5 s" not in names(replace(BARE, gt=boxes([(0, 9)], [5], speed=3.0)))[1]
    assert names(replace(BARE, lidar=np.ones((3, 4), dtype=np.float32)))[1][-1] == "LiDAR point"
    marked = replace(BARE, marked=np.ones((1, 2), dtype=np.float32), marked_title="found by a, missed by b")
    assert names(marked)[1][-1] == "found by a, missed by b"
    assert "found by a" not in str(names(replace(BARE, marked_title="found by a, missed by b")))


def test_without_annotations_nothing_is_found_or_missed():
    sample = replace(BARE, gt=None, models=(ModelView("m", scored([(10, 10)], [0])),))
    classes, marks = names(sample)
    assert classes == ["car"]
    assert marks == ["fainter: lower score", "heading: line to the front", "own car, driving up"]


@pytest.mark.parametrize("models", range(5))
def test_no_text_of_a_picture_is_cut_or_covered(models):
    everything = boxes([(4.0 * i, 3.0 * i) for i in range(10)], list(range(10)), speed=4.0)
    half = replace(everything, scores=np.full(10, 0.5, dtype=np.float32)).select(np.arange(10) % 2 == 0)
    sample = replace(
        BARE, gt=everything, models=tuple(ModelView(f"model{i}", half) for i in range(models)),
        lidar=np.ones((3, 4), np.float32), radar=np.ones((3, 4), np.float32), marked=np.ones((1, 2), np.float32),
        marked_title="found by distill/student-of-a-long-name, missed by train-teacher/teacher",
    )  # fmt: skip
    figure = render_sample(sample)
    figure.canvas.draw()
    legend = figure.axes[-1]
    extents = [text.get_window_extent() for text in legend.texts]
    assert len(extents) >= 15
    height = figure.get_size_inches()[1] * figure.dpi
    for index, extent in enumerate(extents):
        assert 0 <= extent.x0 < extent.x1 <= WIDTH_PX
        assert 0 <= extent.y0 < extent.y1 <= height
        assert not any(extent.overlaps(other) for other in extents[index + 1 :])
    panels = [axes.get_window_extent() for axes in figure.axes[:-1]]
    assert not any(extent.overlaps(panel) for extent in extents for panel in panels)


def test_an_empty_legend_is_drawn():
    figure = Figure()
    FigureCanvasAgg(figure)
    Legend((), ()).draw(figure.add_axes((0, 0, 1, 1)), 100.0, 100.0)
    assert Legend((), ()).height_px(100.0) <= 0
