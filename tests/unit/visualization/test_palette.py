"""Classes can be told apart: by colour with every kind of colour vision, and by a glyph or a name."""

import numpy as np
import pytest

from crkd_core.config.colours import distinguishable_colours
from crkd_core.visualization.palette import BACKGROUND, GROUND_TRUTH, PANEL, class_styles, score_alpha
from tests.support.colour_vision import VISIONS, contrast, distances, lab
from tests.support.described import NUSCENES, THREE, TWELVE

DESCRIPTIONS = pytest.mark.parametrize("description", [NUSCENES, TWELVE, THREE], ids=lambda value: value.name)


def test_the_simulation_is_the_published_one():
    # Greys stay greys for everybody; red and green of one lightness come together for a deuteranope, blue stays blue.
    for vision in VISIONS:
        assert np.abs(lab(["#808080", "#ffffff"], vision)[:, 1:]).max() < 1.0
    assert lab(["#ffffff"])[0] == pytest.approx([100, 0, 0], abs=0.01)
    assert lab(["#ff0000"])[0] == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    red_green = ["#c03a3a"], ["#6f6f00"]
    assert distances(*red_green, "deuteranope") < 0.4 * distances(*red_green)


@DESCRIPTIONS
def test_every_class_has_a_style_of_its_own(description):
    styles = class_styles(description)
    assert len(styles) == len(description.classes)
    for attribute in ("colour", "glyph", "tag"):
        assert len({getattr(style, attribute) for style in styles}) == len(styles) - (description is THREE) * (
            attribute == "glyph"
        )


def test_what_the_styles_of_a_class_are_is_what_the_description_says():
    style = class_styles(NUSCENES)[NUSCENES.class_names.index("traffic_cone")]
    assert (style.colour, style.glyph, style.tag, style.title) == ("#d14a03", "^", "cone", "traffic cone")
    assert style.is_static
    assert class_styles(NUSCENES)[0].glyph is None


@pytest.mark.parametrize(
    ("vision", "least"), [("trichromat", 24), ("protanope", 17), ("deuteranope", 17), ("tritanope", 17)]
)
@DESCRIPTIONS
def test_all_pairs_of_class_colours_differ(description, vision, least):
    colours = list(description.colours.values())
    first, second = np.triu_indices(len(colours), 1)
    apart = distances(colours, colours, vision)[first, second]
    closest = int(apart.argmin())
    assert apart[closest] > least, (colours[first[closest]], colours[second[closest]])


@pytest.mark.parametrize("vision", VISIONS)
@DESCRIPTIONS
def test_classes_of_one_task_differ_more(description, vision):
    colours = description.colours
    for task in description.head_tasks:
        for first in task:
            for second in set(task) - {first}:
                assert distances([colours[first]], [colours[second]], vision).item() > 22, (first, second)


@pytest.mark.parametrize("vision", VISIONS)
@DESCRIPTIONS
def test_no_class_is_taken_for_white_ground_truth(description, vision):
    assert distances(list(description.colours.values()), [GROUND_TRUTH], vision).min() > 15


@pytest.mark.parametrize("colour", distinguishable_colours(14, [])[:14])
def test_classes_show_on_the_background_and_under_the_text_of_tags(colour):
    # 3 is what WCAG asks of graphical objects.
    assert contrast(colour, PANEL) > 3
    assert contrast(colour, BACKGROUND) > 3


def test_low_scores_are_fainter_and_never_invisible():
    assert 0.5 < score_alpha(-1.0) == score_alpha(0.0) < score_alpha(0.5) < score_alpha(1.0) == score_alpha(7.0) == 1.0
