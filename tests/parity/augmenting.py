"""Image and BEV augmentation."""

import re

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from crkd_core.config.data import DataConfig, GridConfig, ImageConfig
from crkd_core.data.augmentation import bev_matrix, image_matrix, test_view
from crkd_core.data.images import pixels_of, transform_image
from crkd_core.data.points import (
    RADAR_MARGIN_M,
    augment_radar,
    in_lidar_range,
    in_radar_range,
    place_sweep,
    training_boxes,
)
from tests.parity.cases import GoldenCase
from tests.parity.comparison import Comparison
from tests.parity.loading import annotations_of
from tests.parity.released import UNBOUNDED, boxes_from_released, boxes_to_released

_GREY_LEVEL, _SHARE = 1, 5e-3
_VALUES = 7


def run_image_augmentation(comparison: Comparison) -> None:
    """Image matrices for given draws, and the pixels of some images."""
    case = comparison.case
    for key in case.outputs:
        name, _, output = key.removeprefix("out/").partition("/")
        height, width = case.config["real_final_dim" if name.startswith("full") else "final_dim"]
        if output == "image":
            _check_pixels(comparison, key, _image(case, name, (width, height)))
            continue
        matrix = _image_matrix(case, name, (width, height))
        comparison.check(key, {"img_aug_matrix": matrix, "rot2x2": matrix[:2, :2], "trans2": matrix[:2, 3]}[output])
    for size, draw in case.config.items():
        if drawn_size := re.fullmatch(r"test_draw_(\d+)x(\d+)", size):
            _check_test_draw(comparison, size, (int(drawn_size[1]), int(drawn_size[2])), draw[0]["test_draw"])


def _draw(case: GoldenCase, name: str) -> tuple[NDArray, bool, float]:
    arrays = case.arrays
    return arrays[f"in/{name}/crop"], bool(arrays[f"in/{name}/flip"]), float(arrays[f"in/{name}/rotate__f64"])


def _image_matrix(case: GoldenCase, name: str, size_px: tuple[int, int]) -> NDArray[np.float64]:
    crop, flip, rotation = _draw(case, name)
    return image_matrix(float(case.arrays[f"in/{name}/resize__f64"]), crop[:2], flip, rotation, size_px)


def _image(case: GoldenCase, name: str, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    crop, flip, rotation = _draw(case, name)
    source = pixels_of(Image.fromarray(case.arrays["in/image"]))
    resized_px = case.arrays[f"in/{name}/resize_dims"]
    return transform_image(source, resized_px, crop[:2], size_px, flip, rotation).permute(1, 2, 0).numpy()


def _check_pixels(comparison: Comparison, key: str, image: NDArray[np.uint8]) -> None:
    comparison.rule("pixels")
    recorded = comparison.case.arrays[key]
    if image.shape != recorded.shape:
        comparison.require(key, False, f"has the shape {image.shape}, and {recorded.shape} is recorded")
        return
    off = np.abs(image.astype(int) - recorded)
    agrees = off.max(initial=0) <= _GREY_LEVEL and (off > 0).mean() <= _SHARE
    share = f"{(off > 0).mean():.2%} of the values differ, by at most {off.max(initial=0)}"
    comparison.require(key, bool(agrees), share, float(off.max(initial=0)) / 255)


def _check_test_draw(comparison: Comparison, key: str, source_px: tuple[int, int], draw: list) -> None:
    resize, resized, crop, flip, rotation = draw
    height, width = comparison.case.config["real_final_dim"]
    data = DataConfig(image=ImageConfig.model_construct(height_px=height, width_px=width, test_resize=resize))
    view = test_view(data, [source_px], 1)
    drawn = [view.resized_px[0].tolist(), view.crop_px[0].tolist(), bool(view.flip[0]), float(view.rotation_deg[0])]
    comparison.require(key, drawn == [resized, crop[:2], flip, rotation], f"our test view is {drawn}")


def run_bev_augmentation(comparison: Comparison) -> None:
    """Points, radar points and boxes after rotation, translation and scale, after flips, and within range."""
    case = comparison.case
    for sample in sorted({key.split("/")[1] for key in case.keys("in/")}, key=int):
        inputs = {key.removeprefix(f"in/{sample}/"): case.arrays[key] for key in case.keys(f"in/{sample}/")}
        flip_y, flip_x = (bool(flip) for flip in inputs["flip_hv"])
        still, flipped = _matrix(inputs, False, False), _matrix(inputs, flip_x, flip_y)
        _check_moved(comparison, f"out/{sample}/after_rst/", inputs, still)
        _check_moved(comparison, f"out/{sample}/after_flip/", inputs, flipped)
        _check_kept(comparison, f"out/{sample}/after_filter/", inputs, flipped)


def _matrix(inputs: dict[str, NDArray], flip_x: bool, flip_y: bool) -> NDArray[np.float64]:
    # There the rotation is clockwise, and the "horizontal" flip mirrors y.
    theta, scale = float(inputs["theta__f64"]), float(inputs["scale__f64"])
    return bev_matrix(-theta, scale, inputs["translation__f64"], flip_x, flip_y)


def _points(points: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Our loader places one sweep at a time, whose points have one age: here every point is a sweep."""
    placed = [place_sweep(point[None], matrix, float(point[4])) for point in points]
    return np.concatenate([points[:0], *placed])


def _radar(comparison: Comparison, radar: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """The augmentation moves the seven measured columns; the one-hot ones behind them stay."""
    comparison.rule("released-columns")
    moved = augment_radar(radar[:, :_VALUES], matrix, released=True)
    return np.concatenate([moved, radar[:, _VALUES:]], axis=1)


def _check_moved(comparison: Comparison, prefix: str, inputs: dict[str, NDArray], matrix: NDArray[np.float64]) -> None:
    case = comparison.case
    comparison.check(f"{prefix}lidar_aug_matrix", matrix)
    comparison.check(f"{prefix}points", _points(inputs["points"], matrix))
    comparison.check(f"{prefix}radar", _radar(comparison, inputs["radar"], matrix))
    boxes = boxes_from_released(torch.from_numpy(inputs["boxes"])).augmented(torch.from_numpy(matrix))
    near_yaw = case[f"{prefix}boxes"][:, 6]
    comparison.check(f"{prefix}boxes", boxes_to_released(boxes, near_yaw))


def _check_kept(comparison: Comparison, prefix: str, inputs: dict[str, NDArray], matrix: NDArray[np.float64]) -> None:
    case = comparison.case
    grid = _range(case)
    points = _points(inputs["points"], matrix)
    comparison.check(f"{prefix}points", points[in_lidar_range(points, grid)])
    radar = _radar(comparison, inputs["radar"], matrix)
    comparison.check(f"{prefix}radar", radar[in_radar_range(radar, grid)])
    labels = _labels(case, len(inputs["boxes"]))
    known = labels >= 0
    boxes = boxes_from_released(torch.from_numpy(inputs["boxes"]))
    annotations = annotations_of(boxes[known], labels[known], np.ones(int(known.sum()), bool))
    kept_boxes, kept_labels = training_boxes(annotations, matrix, grid, require_points=True)
    comparison.check(f"{prefix}boxes", boxes_to_released(kept_boxes, case[f"{prefix}boxes"][:, 6]))
    comparison.check(f"{prefix}labels", kept_labels)


def _range(case: GoldenCase) -> GridConfig:
    """Detection range; the radar's, which the settings name, is wider by our margin."""
    radar = re.search(r"radar BEV \+-([\d.]+)", case.config.get("order", ""))
    grid = DataConfig().grid
    if radar is None:
        return grid
    reach = float(radar[1]) - RADAR_MARGIN_M
    return UNBOUNDED.model_copy(
        update={"x_range_m": (-reach, reach), "y_range_m": (-reach, reach), "z_range_m": grid.z_range_m}
    )


def _labels(case: GoldenCase, count: int) -> torch.Tensor:
    """Labels of the boxes, which the settings list."""
    if "in/labels" in case:
        return case["in/labels"]
    listed = re.search(r"in/labels\s*=\s*\[([-\d,\s]*)\]", case.config.get("order", ""))
    if listed is None:
        raise ValueError("the settings do not list the labels of the boxes")
    return torch.tensor([int(label) for label in listed[1].split(",")][:count])
