"""What settings take from the description of the data set: defaults where they say nothing, and the names they may use.

Sections that stand alone, outside of a whole configuration, have the defaults of nuScenes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from crkd_core.config.data import DataConfig
from crkd_core.config.description import DatasetDescription
from crkd_core.config.description_files import dataset_names, known_description, nuscenes
from crkd_core.config.distill import DistillConfig
from crkd_core.config.models import DetectorConfig
from crkd_core.errors import quoted

_DETECTORS = ("teacher", "student")
_DEFAULTS: dict[tuple[str, ...], Callable[[DatasetDescription], Any]] = {
    ("data", "paste_teacher", "objects"): lambda description: description.pasted_objects,
    ("distill", "respd", "task_weights"): lambda description: description.response_weights,
    **{
        (detector, "head", "nms", key): default
        for detector in _DETECTORS
        for key, default in {
            "circle_classes": lambda description: description.circle_nms_m2,
            "size_factors": lambda description: description.nms_size_factors,
        }.items()
    },
}


def with_described_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of a configuration, with those that it does not say as its data set's description has them."""
    description = _description_of(values.get("dataset"))
    if description is None or description == nuscenes():
        return dict(values)
    filled = dict(values)
    for path, default in _DEFAULTS.items():
        if path[0] not in _DETECTORS or isinstance(values.get(path[0]), Mapping):
            filled = _with_default(filled, path, default(description))
    return filled


def values_without_defaults(config: BaseModel) -> dict[str, Any]:
    """Plain values of a configuration, without what it does not say and its data set's description has."""
    values = config.model_dump(mode="json")
    for path in _DEFAULTS:
        section, inner = config, values
        for key in path[:-1]:
            section, inner = getattr(section, key), inner[key]
        if path[-1] not in section.model_fields_set:
            del inner[path[-1]]
    return values


def _description_of(value: Any) -> DatasetDescription | None:
    """None where nothing is said, or nothing valid, which the field itself then tells."""
    if isinstance(value, str):
        return known_description(value) if value in dataset_names() else None
    try:
        return None if value is None else DatasetDescription.model_validate(value)
    except ValidationError:
        return None


def _with_default(section: dict[str, Any], path: tuple[str, ...], default: Any) -> dict[str, Any]:
    key, *rest = path
    if not rest:
        return {key: default, **section}
    inner = section.get(key, {})
    # What is no plain section was validated before, or is about to be refused.
    return {**section, key: _with_default(dict(inner), tuple(rest), default)} if isinstance(inner, Mapping) else section


def unknown_names(
    description: DatasetDescription, data: DataConfig, detectors: Mapping[str, DetectorConfig], distill: DistillConfig
) -> Iterator[str]:
    """What settings say of classes or tasks that the data set does not have, one sentence each."""
    names = description.class_names
    yield from _unknown_classes("data.paste_teacher", data.paste_teacher.objects, names)
    for role, detector in detectors.items():
        nms, key = detector.head.nms, f"{role}.head.nms"
        yield from _unknown_classes(key, nms.size_factors, names)
        first_classes = [classes[0] for classes in description.head_tasks]
        unused = [name for name in nms.circle_classes if name not in first_classes]
        if unused:
            yield (
                f"{key}: circle_classes names head tasks by their first class, found {unused[0]!r}; those are "
                f"{', '.join(first_classes)}."
            )
    tasks, weights = len(description.tasks), list(distill.respd.task_weights)
    if len(weights) != tasks:
        limit = "least" if len(weights) < tasks else "most"
        yield (
            f"the config key 'distill.respd.task_weights': expected a list of at {limit} {tasks}, found "
            f"{quoted(weights)} (list)."
        )


def _unknown_classes(key: str, used: Iterable[str], names: tuple[str, ...]) -> Iterator[str]:
    unknown = [name for name in used if name not in names]
    if unknown:
        yield f"{key}: no class is called {unknown[0]!r}; the classes are {', '.join(names)}."
