"""Night and rain by whole words of a scene's description."""

import pytest

from crkd_core.datasets.nuscenes.weather import is_night, is_rain


@pytest.mark.parametrize(
    ("description", "night", "rain"),
    [
        ("Night, after rain, many peds, PMD, ped with bag, jaywalker", True, True),
        ("Rain, high speed, trucks", False, True),
        ("night/rain", True, True),
        ("heavy_rain_night2", True, True),
        ("It is RAINING; headlights", False, True),
        ("Rainy, peds", False, True),
        ("Midnight, nighttime traffic", True, False),
        ("Night, peds in sidewalk, difficult lighting", True, False),
        ("Parked truck, construction, intersection, turn left, following a van", False, False),
        ("Rough terrain", False, False),
        ("Train crossing, drain, grain silo, strain, brain, rainforest", False, False),
        ("Knightsbridge, knight, nightclub, Nightingale lane", False, False),
        ("Day, no rain", False, False),
        ("Not raining, without rain", False, False),
        ("No rain at first, then rain", False, True),
        ("", False, False),
    ],
)
def test_whole_words_decide(description, night, rain):
    assert (is_night(description), is_rain(description)) == (night, rain)
