"""Ten classes can be told apart: by colour with every kind of colour vision, and by a glyph or a name."""

import numpy as np
import pytest

from crkd_core.config.classes import DETECTION_CLASSES, HEAD_TASKS
from crkd_core.visualization.palette import (
    BACKGROUND,
    CLASS_COLOURS,
    CLASS_STYLES,
    GROUND_TRUTH,
    PANEL,
    class_style,
    score_alpha,
)
from tests.support.colour_vision import VISIONS, contrast, distances, lab

COLOURS = list(CLASS_COLOURS.values())
FIRST, SECOND = np.triu_indices(len(COLOURS), 1)


def test_the_simulation_is_the_published_one():
    # Greys stay greys for everybody; red and green of one lightness come together for a deuteranope, blue stays blue.
    for vision in VISIONS:
        assert np.abs(lab(["#808080", "#ffffff"], vision)[:, 1:]).max() < 1.0
    assert lab(["#ffffff"])[0] == pytest.approx([100, 0, 0], abs=0.01)
    assert lab(["#ff0000"])[0] == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    red_green = ["#c03a3a"], ["#6f6f00"]
    assert distances(*red_green, "deuteranope") < 0.4 * distances(*red_green)


def test_every_class_has_a_style_of_its_own():
    assert tuple(CLASS_STYLES) == DETECTION_CLASSES
    for attribute in ("colour", "glyph", "tag"):
        assert len({getattr(style, attribute) for style in CLASS_STYLES.values()}) == len(DETECTION_CLASSES)
    assert class_style(3) is CLASS_STYLES["bus"]


@pytest.mark.parametrize(
    ("vision", "least"), [("trichromat", 24), ("protanope", 17), ("deuteranope", 17), ("tritanope", 17)]
)
def test_all_pairs_of_class_colours_differ(vision, least):
    apart = distances(COLOURS, COLOURS, vision)[FIRST, SECOND]
    closest = int(apart.argmin())
    assert apart[closest] > least, (DETECTION_CLASSES[FIRST[closest]], DETECTION_CLASSES[SECOND[closest]])


@pytest.mark.parametrize("vision", VISIONS)
def test_classes_of_one_task_differ_more(vision):
    for task in HEAD_TASKS:
        for first in task:
            for second in set(task) - {first}:
                assert distances([CLASS_COLOURS[first]], [CLASS_COLOURS[second]], vision).item() > 22, (first, second)


@pytest.mark.parametrize("vision", VISIONS)
def test_no_class_is_taken_for_white_ground_truth(vision):
    assert distances(COLOURS, [GROUND_TRUTH], vision).min() > 15


@pytest.mark.parametrize("name", DETECTION_CLASSES)
def test_classes_show_on_the_background_and_under_the_text_of_tags(name):
    # 3 is what WCAG asks of graphical objects.
    assert contrast(CLASS_COLOURS[name], PANEL) > 3
    assert contrast(CLASS_COLOURS[name], BACKGROUND) > 3


def test_low_scores_are_fainter_and_never_invisible():
    assert 0.5 < score_alpha(-1.0) == score_alpha(0.0) < score_alpha(0.5) < score_alpha(1.0) == score_alpha(7.0) == 1.0
