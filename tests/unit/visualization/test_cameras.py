"""Boxes in camera images: where they land, what is cut, what is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.transforms import rigid_transforms
from crkd_core.visualization.cameras import NEAR_PLANE_M, draw_camera, project_boxes
from crkd_core.visualization.palette import TRUE_POSITIVE, class_style
from crkd_core.visualization.true_positives import Outcome, StyledBoxes
from crkd_core.visualization.views import CameraView, LabelledBoxes
from tests.support.colour_vision import contrast

# Camera at the origin of the model frame, looking along its y axis.
FORWARD = rigid_transforms(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]), np.zeros(3))
INTRINSICS = np.array([[160.0, 0.0, 160.0], [0.0, 160.0, 90.0], [0.0, 0.0, 1.0]])
VIEW = CameraView("CAM_FRONT", np.full((180, 320, 3), 40, dtype=np.uint8), INTRINSICS, FORWARD)


def box(x, y, yaw=np.pi / 2, size=(2.0, 4.0, 2.0)):
    return Boxes3D(torch.tensor([[x, y, 0.0, *size, yaw, np.nan, np.nan]], dtype=torch.float64))


def labelled(boxes, label=0, score=None):
    labels = np.full(len(boxes), label)
    return LabelledBoxes(boxes, labels, None if score is None else np.full(len(boxes), score, dtype=np.float32))


def pixels_of(gt, detections, view=VIEW, px_per_pixel=0.1):
    """At 0.1, all boxes are too small for tags."""
    figure = Figure(figsize=(3.2, 1.8), dpi=100)
    canvas = FigureCanvasAgg(figure)
    layers = (StyledBoxes(gt, TRUE_POSITIVE),) if detections is None else Outcome.of(detections, gt).layers
    draw_camera(figure.add_axes((0, 0, 1, 1)), view, layers, px_per_pixel)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def near_colour(pixels, label, tolerance=60):
    colour = np.array(to_rgb(class_style(label).colour)) * 255
    return np.abs(pixels - colour).max(axis=-1) < tolerance


def test_projection_of_the_rear_face():
    (shown,) = project_boxes(box(0.0, 12.0), VIEW)
    rear = {tuple(point) for point in shown.edges.reshape(-1, 2).round(3)}
    # The rear face is 10 m away, 2 m wide and high: 160 px * 1 m / 10 m to each side.
    assert {(144.0, 74.0), (176.0, 74.0), (144.0, 106.0), (176.0, 106.0)} <= rear
    assert len(shown.edges) == 12
    assert shown.depth_m == pytest.approx(12.0)


def test_heading_line_points_to_the_front():
    (away,), (towards,) = (project_boxes(box(3.0, 12.0, yaw), VIEW) for yaw in (np.pi / 2, -np.pi / 2))
    assert away.heading[1, 1] < away.heading[0, 1]
    assert towards.heading[1, 1] > towards.heading[0, 1]


def test_boxes_behind_and_beside_are_left_out():
    assert project_boxes(box(0.0, -8.0), VIEW) == []
    assert project_boxes(box(60.0, 5.0), VIEW) == []
    assert project_boxes(Boxes3D.empty(), VIEW) == []


def test_a_box_through_the_image_plane_is_cut():
    (shown,) = project_boxes(box(1.5, 1.0, size=(1.0, 6.0, 2.0)), VIEW)
    assert len(shown.edges) == 8
    assert np.isfinite(shown.edges).all()
    # Nothing lies nearer than the near plane, so no pixel is farther out than the box there.
    assert shown.edges[..., 0].max() <= 160 + 160 * 2.0 / NEAR_PLANE_M + 1e-6
    assert shown.heading is not None


def test_far_boxes_come_first():
    both = Boxes3D.cat([box(0.0, 8.0), box(0.0, 30.0)])
    assert [shown.index for shown in project_boxes(both, VIEW)] == [1, 0]


@pytest.mark.parametrize("label", [0, 1, 8])
def test_pixels_are_where_the_box_is(label):
    shown = labelled(box(0.0, 12.0), label, 1.0)
    drawn = near_colour(pixels_of(shown, shown), label)
    for edge in (drawn[74:107, 142:147], drawn[74:107, 174:179]):
        assert edge.any(axis=1).mean() > 0.9
    drawn[70:110, 140:180] = False
    drawn[:40, :80] = False  # the camera's name
    assert not drawn.any()


def test_ground_truth_alone_is_drawn_in_class_colours():
    assert near_colour(pixels_of(labelled(box(0.0, 12.0)), None), 0).any()


def test_missed_objects_are_dotted_in_white_and_false_alarms_dashed():
    pixels = pixels_of(labelled(box(0.0, 12.0)), LabelledBoxes.empty())
    assert not near_colour(pixels, 0, 30).any()
    assert (pixels[74:107, 142:179].min(axis=-1) > 150).sum() > 20
    shown = labelled(box(0.0, 12.0), 0, 1.0)
    solid, dashed = (near_colour(pixels_of(gt, shown), 0).sum() for gt in (shown, LabelledBoxes.empty()))
    assert 0 < dashed < 0.8 * solid


def test_a_low_score_is_fainter():
    gt = labelled(box(0.0, 12.0), 1)
    strong, weak = (pixels_of(gt, labelled(box(0.0, 12.0), 1, score)) for score in (1.0, 0.05))
    assert strong[74:107, 142:179].mean() > weak[74:107, 142:179].mean() + 5
    assert (weak[74:107, 142:179].max(axis=-1) > 60).any()


@pytest.mark.parametrize("label", range(10))
@pytest.mark.parametrize("grey", [8, 245])
def test_boxes_show_at_night_and_before_a_bright_sky(label, grey):
    view = replace(VIEW, image=np.full((180, 320, 3), grey, dtype=np.uint8))
    pixels = pixels_of(LabelledBoxes.empty(), labelled(box(0.0, 12.0), label, 0.3), view)
    strip = pixels[80:100, 140:150].reshape(-1, 3)
    contrasts = [contrast(np.full(3, grey / 255), pixel / 255) for pixel in np.unique(strip, axis=0)]
    assert max(contrasts) > 2


def test_tags_name_class_and_score_of_what_is_large_enough():
    figure = Figure(figsize=(6.4, 3.6), dpi=100)
    near, far = box(0.0, 12.0), box(-15.0, 200.0)
    shown = LabelledBoxes(Boxes3D.cat([near, far]), np.array([0, 8]), np.array([0.87, 0.5], dtype=np.float32))
    axes = figure.add_axes((0, 0, 1, 1))
    draw_camera(axes, VIEW, Outcome.of(shown, LabelledBoxes.empty()).layers, 2.0)
    assert [text.get_text() for text in axes.texts] == ["front", "car 0.87"]


def test_tags_cover_neither_each_other_nor_the_name_of_the_camera():
    figure = Figure(figsize=(6.4, 3.6), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    row = Boxes3D.cat([box(x, 12.0 + 0.1 * x) for x in np.linspace(-11, 11, 40)])
    draw_camera(axes, VIEW, (StyledBoxes(labelled(row, 5), TRUE_POSITIVE),), 2.0)
    canvas.draw()
    rectangles = [text.get_bbox_patch().get_window_extent() for text in axes.texts]
    assert 5 < len(rectangles) < 40
    for index, first in enumerate(rectangles):
        assert not any(first.shrunk(0.85, 0.7).overlaps(second.shrunk(0.85, 0.7)) for second in rectangles[index + 1 :])


def test_inputs_stay_as_they_were():
    shown = labelled(box(0.0, 12.0), 0, 0.7)
    before, image = shown.boxes.tensor.clone(), VIEW.image.copy()
    pixels_of(shown, shown)
    assert torch.equal(shown.boxes.tensor[:, :7], before[:, :7])
    assert (VIEW.image == image).all()
