"""Night and rain, as the descriptions of nuScenes' scenes name them: "Night, after rain, many peds, ...".

Only whole words count: a train, rough terrain, a drain or Knightsbridge say nothing of the weather. "After rain" counts
as rain, as everywhere results on nuScenes are broken down by weather: the road is wet and drops are on the lenses.
"""

import re

# A word ends at anything but a letter, so that "scene_night_rain-2" is read as it is meant.
_NO_LETTER_BEFORE, _NO_LETTER_AFTER = r"(?<![^\W\d_])", r"(?![^\W\d_])"
_NOT = r"(?:no|not|without)[\s_-]+"


def _words(pattern: str) -> re.Pattern[str]:
    whole = f"{_NO_LETTER_BEFORE}({_NOT})?(?:{pattern}){_NO_LETTER_AFTER}"
    return re.compile(whole, re.IGNORECASE)


_NIGHT = _words(r"(?:mid|over|to)?nights?|nighttime|nightfall")
_RAIN = _words(r"rains?|rainy|raining|rained|rainfall|rainstorms?|raindrops?")


def is_night(description: str) -> bool:
    """Whether a scene's description says that it is night."""
    return _says(_NIGHT, description)


def is_rain(description: str) -> bool:
    """Whether a scene's description says that it rains or has just rained."""
    return _says(_RAIN, description)


def _says(words: re.Pattern[str], description: str) -> bool:
    return any(match.group(1) is None for match in words.finditer(description))
