"""Pictures of precision and errors over recall."""

import numpy as np
import pytest
from PIL import Image

from crkd_core.visualization.score_curves import (
    ErrorPanel,
    PrecisionPanel,
    write_error_curves,
    write_precision_curves,
)
from tests.support.described import NUSCENES

RECALLS = np.linspace(0, 1, 101)


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).reshape(-1, 3)


def count(path, colour: str) -> int:
    expected = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])
    return int((np.abs(pixels(path).astype(int) - expected).max(axis=1) < 12).sum())


def panel(name: str, height: float, objects: int) -> PrecisionPanel:
    distances = (0.5, 1.0, 2.0, 4.0)
    curves = {distance: np.where(RECALLS < 0.7, height * distance / 4, 0.0) for distance in distances}
    return PrecisionPanel(name, curves, dict.fromkeys(distances, 0.5), objects)


@pytest.mark.parametrize("objects", [0, 7])
def test_precision_is_drawn_where_there_are_objects(tmp_path, objects):
    write_precision_curves(tmp_path / "precision.png", "title", [panel("car", 0.9, objects)], 0.1)
    assert (count(tmp_path / "precision.png", "#4cc9f0") > 100) == (objects > 0)


def test_errors_are_drawn_in_the_colour_of_their_class(tmp_path):
    errors = [
        ErrorPanel(title, "m", 0.5, {"bicycle": (RECALLS[1:60], np.full(59, 0.4))} if title == "translation" else {})
        for title in ("translation", "scale")
    ]
    write_error_curves(tmp_path / "errors.png", "errors", errors, 0.1, NUSCENES.colours)
    assert count(tmp_path / "errors.png", NUSCENES.colours["bicycle"]) > 200
    assert count(tmp_path / "errors.png", NUSCENES.colours["truck"]) == 0
