"""Boxes in camera images: where they land, what is cut, what is left out."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.transforms import rigid_transforms
from crkd_core.visualization.cameras import NEAR_PLANE_M, draw_camera, project_boxes
from crkd_core.visualization.palette import class_colour
from crkd_core.visualization.views import CameraView, LabelledBoxes

# Camera at the origin of the model frame, looking along its y axis.
FORWARD = rigid_transforms(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]), np.zeros(3))
INTRINSICS = np.array([[160.0, 0.0, 160.0], [0.0, 160.0, 90.0], [0.0, 0.0, 1.0]])
VIEW = CameraView("CAM_FRONT", np.full((180, 320, 3), 40, dtype=np.uint8), INTRINSICS, FORWARD)


def box(x, y, yaw=np.pi / 2, size=(2.0, 4.0, 2.0)):
    return Boxes3D(torch.tensor([[x, y, 0.0, *size, yaw, np.nan, np.nan]], dtype=torch.float64))


def labelled(boxes, label=0, score=None):
    labels = np.full(len(boxes), label)
    return LabelledBoxes(boxes, labels, None if score is None else np.full(len(boxes), score, dtype=np.float32))


def pixels_of(gt, detections):
    figure = Figure(figsize=(3.2, 1.8), dpi=100)
    canvas = FigureCanvasAgg(figure)
    draw_camera(figure.add_axes((0, 0, 1, 1)), VIEW, gt, detections)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def near_colour(pixels, label, tolerance=60):
    colour = np.array(to_rgb(class_colour(label))) * 255
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
    drawn = near_colour(pixels_of(LabelledBoxes.empty(), labelled(box(0.0, 12.0), label, 1.0)), label)
    for edge in (drawn[74:107, 142:147], drawn[74:107, 174:179]):
        assert edge.any(axis=1).mean() > 0.9
    drawn[70:110, 140:180] = False
    assert not drawn.any()


def test_ground_truth_alone_is_drawn_in_class_colours():
    assert near_colour(pixels_of(labelled(box(0.0, 12.0)), None), 0).any()


def test_ground_truth_beside_detections_is_white():
    pixels = pixels_of(labelled(box(0.0, 12.0)), LabelledBoxes.empty())
    assert not near_colour(pixels, 0).any()
    assert (pixels[74:107, 142:179].min(axis=-1) > 150).sum() > 20


def test_a_low_score_is_fainter():
    strong, weak = (pixels_of(LabelledBoxes.empty(), labelled(box(0.0, 12.0), 1, score)) for score in (1.0, 0.05))
    assert strong[74:107, 142:179].max() > weak[74:107, 142:179].max() + 40
    assert (weak[74:107, 142:179].max(axis=-1) > 60).any()


def test_inputs_stay_as_they_were():
    shown = labelled(box(0.0, 12.0), 0, 0.7)
    before, image = shown.boxes.tensor.clone(), VIEW.image.copy()
    pixels_of(shown, shown)
    assert torch.equal(shown.boxes.tensor[:, :7], before[:, :7])
    assert (VIEW.image == image).all()
