"""In what two data-set descriptions differ as far as models and their inputs are concerned, in one clause."""

from collections.abc import Sequence

from crkd_core.config.description import DatasetDescription


def description_difference(first: DatasetDescription, second: DatasetDescription) -> str | None:
    """The first difference that makes a model of one useless on the other, as in "classes: bus instead of lorry".

    Names, colours, ranges, splits and what else decides nothing that a model learns may differ.

    Returns:
        What `first` has and `second` has not, and the other way round; None where nothing differs.
    """
    lists = {
        "classes": (first.class_names, second.class_names),
        "head tasks": (_joined(first.head_tasks), _joined(second.head_tasks)),
        "cameras": (first.cameras, second.cameras),
        "LiDARs": (first.lidars, second.lidars),
        "reference LiDAR": ((first.reference,), (second.reference,)),
        "radars": (first.radars, second.radars),
    }
    for kind, (own, other) in lists.items():
        if own != other:
            return f"{kind}: {_difference(own, other)}"
    for name in first.class_names:
        own, other = (entry.classes[name].categories or (name,) for entry in (first, second))
        if set(own) != set(other):
            return f"categories of {name}: {_difference(own, other)}"
    for kind, (own_points, other_points) in {
        "LiDAR points": (first.lidar_points, second.lidar_points),
        "radar points": (first.radar_points, second.radar_points),
    }.items():
        for field in type(own_points).model_fields:
            # Features that are not given are as good as said.
            name = "network_features" if field == "features" else field
            values = getattr(own_points, name), getattr(other_points, name)
            if values[0] != values[1]:
                return f"{field} of {kind}: {_shown(values[0])} instead of {_shown(values[1])}"
    return None


def _joined(tasks: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple("+".join(classes) for classes in tasks)


def _difference(own: Sequence[str], other: Sequence[str]) -> str:
    more = [name for name in own if name not in other]
    fewer = [name for name in other if name not in own]
    if more and fewer:
        return f"{', '.join(more)} instead of {', '.join(fewer)}"
    if more:
        return f"{', '.join(more)} besides {', '.join(other) or 'none'}"
    if fewer:
        return f"without {', '.join(fewer)}"
    return f"{', '.join(own)} in another order"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
