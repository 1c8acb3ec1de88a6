"""The boxes of one sample in a nuScenes result file: as numbers where all are valid, else what is wrong with one."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.config.description import DatasetDescription

_LENGTHS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}
_FIELDS = ("sample_token", *_LENGTHS, "detection_name", "detection_score", "attribute_name")


@dataclass(frozen=True)
class KnownNames:
    """What boxes of a result file may be called.

    Attributes:
        classes: in label order.
        attributes: the empty one, of boxes that have none, before those of the data set.
    """

    classes: tuple[str, ...]
    attributes: tuple[str, ...]

    @staticmethod
    def of(description: DatasetDescription) -> "KnownNames":
        """Those of a data set."""
        return KnownNames(description.class_names, ("", *description.attributes))

    @cached_property
    def labels(self) -> dict[str, int]:
        """By class."""
        return {name: label for label, name in enumerate(self.classes)}

    @cached_property
    def attribute_ids(self) -> dict[str, int]:
        """By attribute."""
        return {name: index for index, name in enumerate(self.attributes)}


def box_columns(
    token: str, boxes: list[Any], known_names: KnownNames
) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.int8]] | None:
    """(N, 13) numbers, classes and attributes of a sample's boxes; None if anything is wrong with any of them."""
    try:
        lengths = {
            (len(b["translation"]), len(b["size"]), len(b["rotation"]), len(b["velocity"]), b["sample_token"])
            for b in boxes
        }
        values = [
            value
            for b in boxes
            for value in (*b["translation"], *b["size"], *b["rotation"], *b["velocity"], b["detection_score"])
        ]
        if lengths != {(3, 3, 4, 2, token)} or not set(map(type, values)) <= {float, int}:
            return None
        numbers = np.array(values, dtype=np.float64).reshape(-1, 13)
        labels = np.array([known_names.labels[b["detection_name"]] for b in boxes], dtype=np.int8)
        attributes = np.array([known_names.attribute_ids[b["attribute_name"]] for b in boxes], dtype=np.int8)
    except (KeyError, TypeError, OverflowError):
        return None
    with np.errstate(over="ignore"):
        norm = np.square(numbers[:, 6:10]).sum(axis=1)
    known = np.isfinite(numbers)
    # Who does not predict velocities may say NaN; the metrics leave such a box out of the velocity error.
    known[:, 10:12] |= np.isnan(numbers[:, 10:12])
    usable = known.all() and (numbers[:, 3:6] > 0).all() and (numbers[:, 12] >= 0).all()
    return (numbers, labels, attributes) if usable and ((norm > 0) & np.isfinite(norm)).all() else None


def box_problem(token: str, box: Any, known_names: KnownNames) -> str | None:
    """What is wrong with one box, as the end of a sentence."""
    if not isinstance(box, dict):
        return f"is {kind_of(box)}; expected an object with {', '.join(_FIELDS)}"
    for name in _FIELDS:
        if name not in box:
            return f"has no {name!r}; expected {', '.join(_FIELDS)}"
    if box["sample_token"] != token:
        return f"has the sample_token {_shown(box['sample_token'])}; expected that of the list it is in"
    for name, count in _LENGTHS.items():
        is_valid = _is_number_or_nan if name == "velocity" else _is_number
        if not isinstance(box[name], list) or len(box[name]) != count or not all(map(is_valid, box[name])):
            unless = " (NaN where unknown)" if name == "velocity" else ""
            return f"has the {name} {_shown(box[name])}; expected {count} finite numbers{unless}"
    if not _is_number(box["detection_score"]) or box["detection_score"] < 0:
        # The benchmark's curves are undefined below 0.
        return f"has the detection_score {_shown(box['detection_score'])}; expected a finite number of 0 or more"
    if not min(box["size"]) > 0:
        return f"has the size {box['size']}; expected a width, length and height above 0 (m)"
    norm = sum(float(value) ** 2 if abs(value) < 1e150 else np.inf for value in box["rotation"])
    if not 0 < norm < np.inf:
        return f"has the rotation {box['rotation']}; expected a unit quaternion (w, x, y, z), not one of length {norm}"
    for name, known in (("detection_name", known_names.classes), ("attribute_name", known_names.attributes)):
        if box[name] not in known:
            return f"has the {name} {_shown(box[name])}; expected {', '.join(repr(value) for value in known)}"
    return None


def _is_number(value: Any) -> bool:
    if type(value) not in (int, float):
        return False
    try:
        return bool(np.isfinite(float(value)))
    except OverflowError:
        return False


def _is_number_or_nan(value: Any) -> bool:
    return _is_number(value) or (type(value) is float and value != value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
