"""Whole pictures: size, panels, and that odd inputs do not break them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from crkd_core.config.classes import CAMERA_CHANNELS
from crkd_core.errors import WriteError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.transforms import rigid_transforms
from crkd_core.visualization.bev import draw_gt_panel, draw_model_panel
from crkd_core.visualization.figure import WIDTH_PX, render_sample, write_picture
from crkd_core.visualization.palette import GROUND_TRUTH, MARK, class_style
from crkd_core.visualization.views import CameraView, LabelledBoxes, ModelView, SampleView

FORWARD = rigid_transforms(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]), np.zeros(3))
INTRINSICS = np.array([[160.0, 0.0, 160.0], [0.0, 160.0, 90.0], [0.0, 0.0, 1.0]])


def boxes(rows, labels, scores=None):
    tensor = torch.tensor(rows, dtype=torch.float32).reshape(-1, 9)
    return LabelledBoxes(
        Boxes3D(tensor), np.array(labels), None if scores is None else np.array(scores, dtype=np.float32)
    )


CAR = [10.0, 20.0, 0.0, 6.0, 6.0, 2.0, 0.0, 0.0, 0.0]
MOVING_BUS = [-20.0, -20.0, 0.0, 3.0, 11.0, 3.0, 1.0, 12.0, 12.0]
UNKNOWN_SPEED = [-10.0, 20.0, 0.0, 2.0, 4.0, 2.0, 0.5, np.nan, np.nan]
TRUTH = boxes([CAR, MOVING_BUS, UNKNOWN_SPEED], [0, 3, 1])


EMPTY = ModelView("m", LabelledBoxes.empty())


def scene(**changes):
    return replace(SampleView("token", "scene-0103", "rain, night", 50.0, TRUTH), **changes)


def cameras():
    image = np.full((180, 320, 3), 60, dtype=np.uint8)
    return tuple(CameraView(channel, image, INTRINSICS, FORWARD) for channel in CAMERA_CHANNELS)


def panel(draw, *arguments):
    """A square BEV panel of 500 px for +-50 m, so that 5 px are a metre."""
    figure = Figure(figsize=(5, 5), dpi=100)
    canvas = FigureCanvasAgg(figure)
    draw(figure.add_axes((0, 0, 1, 1)), *arguments)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def near(pixels, colour, tolerance=40):
    return np.abs(pixels - np.array(to_rgb(colour)) * 255).max(axis=-1) < tolerance


def window(pixels, x, y, half_m):
    column, row = round(250 + 5 * x), round(250 - 5 * y)
    half = round(5 * half_m)
    return pixels[row - half : row + half + 1, column - half : column + half + 1]


def test_bev_boxes_are_where_they_should_be():
    pixels = panel(draw_gt_panel, scene())
    car = class_style(0).colour
    assert near(window(pixels, 10, 20, 3.6), car).sum() > 60
    right_edge = near(window(pixels, 13, 20, 0.5), car)
    assert right_edge.any(axis=1).all()
    assert not near(window(pixels, 20, 10, 3.6), car).any()
    assert not near(window(pixels, -10, 20, 3.6), car).any()


def test_motion_has_an_arrow_unless_unknown():
    still = [*MOVING_BUS[:7], 0.0, 0.0]
    bus = class_style(3).colour
    moving, standing, unknown = (
        near(window(panel(draw_gt_panel, scene(gt=boxes([row], [3]))), -15.5, -15.5, 1.5), bus).sum()
        for row in (MOVING_BUS, still, [*MOVING_BUS[:7], np.nan, np.nan])
    )
    assert moving > standing == unknown


def test_found_false_and_missed_differ():
    gt, stray = boxes([CAR], [0]), [30.0, -30.0, *CAR[2:]]
    pixels = panel(draw_model_panel, scene(gt=gt), ModelView("m", boxes([CAR], [0], [1.0])))
    true_positive = near(window(pixels, 10, 20, 3.6), class_style(0).colour).sum()
    assert near(window(pixels, 10, 20, 3.6), GROUND_TRUTH).sum() == 0
    pixels = panel(draw_model_panel, scene(gt=gt), ModelView("m", boxes([stray], [0], [1.0])))
    false_alarm = near(window(pixels, 30, -30, 3.6), class_style(0).colour).sum()
    assert true_positive > 1.5 * false_alarm > 0
    assert not near(window(pixels, 10, 20, 3.6), class_style(0).colour).any()
    assert near(window(pixels, 10, 20, 3.6), GROUND_TRUTH).sum() > 20


@pytest.mark.parametrize(("modalities", "expected"), [(("camera", "radar"), True), (("camera", "lidar"), False)])
def test_a_panel_shows_the_sensors_of_its_model(modalities, expected):
    radar = np.array([[30.0, -30.0, 0.0, 8.0]], dtype=np.float32)
    lidar = np.stack([np.linspace(-30, -20, 200), np.full(200, 30.0), np.zeros(200), np.zeros(200)], axis=1)
    shown = scene(radar=radar, lidar=lidar.astype(np.float32))
    empty = ModelView("m", LabelledBoxes.empty(), modalities)
    pixels, bare = panel(draw_model_panel, shown, empty), panel(draw_model_panel, scene(), empty)
    assert (window(pixels, 30, -28, 4) != window(bare, 30, -28, 4)).any() == expected
    assert (window(pixels, -25, 30, 4) != window(bare, -25, 30, 4)).any() == (not expected)


@pytest.mark.parametrize("draw", [draw_gt_panel, lambda axes, shown: draw_model_panel(axes, shown, EMPTY)])
def test_marked_places_have_a_ring(draw):
    pixels = panel(draw, scene(marked=np.array([[30.0, -30.0]], dtype=np.float32), marked_title="missed"))
    assert near(window(pixels, 30, -30, 4), MARK).sum() > 20
    assert not near(window(pixels, 30, -30, 0.8), MARK).any()
    assert not near(window(panel(draw, scene()), 30, -30, 4), MARK).any()


def test_picture_with_everything(tmp_path):
    detections = boxes([CAR, MOVING_BUS], [0, 3], [0.9, 0.4])
    models = tuple(ModelView(name, detections, ("camera", "radar")) for name in ("teacher", "plain", "crkd"))
    path = tmp_path / "folder" / "picture.png"
    write_picture(path, scene(cameras=cameras(), models=models))
    with Image.open(path) as picture:
        assert picture.width == WIDTH_PX
        assert picture.width * 0.6 < picture.height < picture.width * 1.3
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # Six cameras in two rows, three panels in a row, the fourth and the legend below.
    tile = WIDTH_PX // 3
    for left, bottom in ((0, 760), (1, 760), (2, 760), (0, 20), (1, 20)):
        rows = slice(pixels.shape[0] - bottom - 640, pixels.shape[0] - bottom)
        assert near(pixels[rows, left * tile : (left + 1) * tile], class_style(0).colour).any()
    assert [entry.name for entry in path.parent.iterdir()] == ["picture.png"]


@pytest.mark.parametrize(
    "changes",
    [
        {"gt": LabelledBoxes.empty()},
        {"gt": LabelledBoxes.empty(), "models": (ModelView("m", LabelledBoxes.empty()),)},
        {"gt": None},
        {"gt": None, "models": (ModelView("m", TRUTH),), "cameras": cameras()},
        {"cameras": cameras()[:2], "condition": "a very long description of the place, " * 9},
    ],
)
def test_scant_scenes_are_drawn(changes):
    figure = render_sample(scene(**changes))
    figure.canvas.draw()
    assert figure.get_size_inches()[0] * figure.dpi == WIDTH_PX


def test_equal_scenes_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_picture(tmp_path / name, scene())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_unwritable_place_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="could not be written"):
        write_picture(tmp_path / "file" / "picture.png", scene())
