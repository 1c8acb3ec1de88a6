"""Tags of a scene, which MAN TruckScenes writes as its description: "weather.rain;area.highway;daytime.noon"."""

import re

_TAGS = re.compile(r"[a-z_]+\.[a-z_]+(?:;[a-z_]+\.[a-z_]+)*")


def scene_tags(description: str) -> tuple[str, ...]:
    """The tags that a description consists of; none where it is a text, as in nuScenes."""
    return tuple(dict.fromkeys(description.split(";"))) if _TAGS.fullmatch(description) else ()
