"""What a data set is: its classes, head tasks, sensors, readers, splits, metrics and looks, as one frozen value.

Everything that differs between two data sets stands here, and nothing else knows a class name or a channel. A
description is written in YAML (:mod:`crkd_core.config.description_files`) and stored in the data that were prepared
with it.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from crkd_core.config.colours import distinguishable_colours
from crkd_core.config.description_points import LidarPoints, RadarPoints
from crkd_core.config.numbers import NonNegative, Positive, PositiveInt, Range
from crkd_core.config.sections import Distinct, Name, Section
from crkd_core.errors import quoted

Format = Literal["nuscenes", "truckscenes", "t4"]
ErrorName = Literal["translation_m", "scale", "orientation_rad", "velocity_mps", "attribute"]
MOST_CLASSES = 100
MOST_CHANNELS = 50
MOST_ATTRIBUTES = 100
TP_DISTANCE_M = 2.0
"""Match distance at which the errors of true positives are measured."""
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_SHORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_CLASS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_GLYPH = re.compile(r"none|letter|\$[A-Za-z0-9]\$|[ov^<>8spP*hHXDd]")
# What tables call all classes together.
_TAKEN_NAMES = ("all", "mean")
_LONGEST_TAG = 8
_CAMERAS_A_ROW = (3, 4)


def _a_colour(value: str) -> str:
    if not _COLOUR.fullmatch(value):
        raise ValueError(f"a colour is written '#rrggbb', found {quoted(value)}")
    return value.lower()


def _a_glyph(value: str) -> str:
    if not _GLYPH.fullmatch(value):
        raise ValueError(
            f"a glyph is none, letter, a letter such as $T$ or a marker of matplotlib such as o or ^, found "
            f"{quoted(value)}"
        )
    return value


def _a_short_name(value: str) -> str:
    if not _SHORT_NAME.fullmatch(value):
        raise ValueError(f"a short name has letters, digits, '-', '_' and '.' only, found {quoted(value)}")
    return value


def _one_lidar(value: Any) -> Any:
    if isinstance(value, list | tuple):
        raise ValueError(
            f"one LiDAR is the reference, as boxes are in its frame; found {', '.join(map(str, value)) or 'none'}"
        )
    return value


Colour = Annotated[str, AfterValidator(_a_colour)]
Glyph = Annotated[str, AfterValidator(_a_glyph)]
Names = Annotated[tuple[Name, ...], Distinct]
Channels = Annotated[tuple[Name, ...], Field(max_length=MOST_CHANNELS)]
HeadTasks = tuple[tuple[str, ...], ...]
"""The classes of each task of a detection head; a label is an index into all of them, task after task."""


class ClassDescription(Section):
    """Everything about one detection class."""

    categories: Names = Field((), description="categories of the tables that it stands for; not given: its own name")
    range_m: Positive = Field(50.0, description="distance from the car up to which its objects are evaluated (m)")
    attributes: Names = Field((), description="attributes that its objects can have")
    when_moving: Name | None = Field(
        None, description="attribute that its detections are given above 0.2 m/s; not given: none"
    )
    when_standing: Name | None = Field(None, description="attribute that its other detections are given")
    unscored: Annotated[tuple[ErrorName, ...], Distinct] = Field(
        (), description="errors of true positives that the benchmark does not define for it"
    )
    half_turn: bool = Field(False, description="looks the same from behind: its yaw counts modulo half a turn")
    static: bool = Field(False, description="never moves")
    longer_than_wide: bool = Field(False, description="vehicles by whose sizes the order of numbers is checked")
    plausible_length_m: Range | None = Field(
        None, description="what the median length of its objects lies in if sizes are in metres (m)"
    )
    paste: PositiveInt = Field(2, description="objects that a sample is filled up to where objects are pasted")
    nms_size_factor: Positive = Field(1.0, description="factor on width and length for rotated NMS")
    colour: Colour | None = Field(
        None, description="of its boxes in pictures, '#rrggbb'; not given: one that is still free"
    )
    glyph: Glyph = Field(
        "letter", description="sign in the bird's-eye view: none, letter (its first one), or a marker of matplotlib"
    )
    tag: Name | None = Field(None, description="its name where there is little room; not given: the first letters")

    @property
    def has_front(self) -> bool:
        """Whether it matters which end of an object is the front."""
        return not self.half_turn and "orientation_rad" not in self.unscored

    @model_validator(mode="after")
    def _own_attributes(self) -> "ClassDescription":
        for field in ("when_moving", "when_standing"):
            value = getattr(self, field)
            if value is not None and value not in self.attributes:
                listed = ", ".join(self.attributes) or "none"
                raise ValueError(f"{field} is one of the class's attributes ({listed}), found {quoted(value)}")
        return self


class TaskDescription(Section):
    """One task of the detection head: neighbouring classes that share a heatmap convolution, boxes and suppression."""

    classes: Annotated[Names, Field(min_length=1)] = Field(description="its classes")
    circle_nms_m2: Positive | None = Field(
        None, description="threshold of circle NMS on the *squared* centre distance (m^2); not given: rotated NMS"
    )
    response_weight: NonNegative | None = Field(
        None,
        description="weight in response distillation; not given: 2, or 1 where one of its classes never moves",
    )


class RegionDescription(Section):
    """Annotated things in which objects of some classes are not evaluated, such as bicycles in a rack."""

    categories: Names = Field((), description="categories of those things")
    classes: Names = Field((), description="classes whose objects inside them are left out")


class EvaluationDescription(Section):
    """The detection benchmark: nuScenes' metrics with these numbers."""

    protocol: Name | None = Field(
        None, description="the benchmark's own name for these numbers; not given: there is no official evaluation"
    )
    class_order: Names = Field((), description="classes as the benchmark lists them; not given: in label order")
    match_distances_m: Annotated[tuple[Positive, ...], Distinct, Field(min_length=1, max_length=6)] = Field(
        (0.5, 1.0, TP_DISTANCE_M, 4.0),
        description="centre distances below which a detection matches an object (m), rising; errors are those at 2 m",
    )
    max_boxes: PositiveInt = Field(500, description="detections a sample that are accepted")

    @model_validator(mode="after")
    def _rising_distances(self) -> "EvaluationDescription":
        distances = list(self.match_distances_m)
        if distances != sorted(distances):
            raise ValueError(f"match_distances_m rise, found {', '.join(f'{value:g}' for value in distances)}")
        if TP_DISTANCE_M not in distances:
            listed = ", ".join(f"{value:g}" for value in distances)
            raise ValueError(
                f"errors are measured at {TP_DISTANCE_M:g} m, which is not among match_distances_m ({listed}); add it"
            )
        return self


class DatasetDescription(Section):
    """One data set, or one fleet's way of recording; see the module.

    The labels of boxes are indices into :attr:`class_names`.
    """

    name: Annotated[Name, AfterValidator(_a_short_name)] = Field(description="short name")
    title: Name | None = Field(None, description="name as texts write it; not given: the short one")
    format: Format = Field("nuscenes", description="reader of the tables and files")
    classes: Annotated[dict[str, ClassDescription], Field(min_length=1, max_length=MOST_CLASSES)] = Field(
        description="detection classes in label order"
    )
    tasks: Annotated[tuple[TaskDescription, ...], Field(min_length=1)] = Field(
        description="tasks of the detection head, in label order; not given: one a class"
    )
    other_categories: Names = Field((), description="known categories of the tables that are not detected")
    ignored_inside: RegionDescription = Field(
        default_factory=RegionDescription, description="annotated things in which some classes are not evaluated"
    )
    cameras: Channels = Field((), description="camera channels, any number")
    lidars: Annotated[Channels, Field(min_length=1)] = Field(description="LiDAR channels")
    reference_lidar: Annotated[Name | None, BeforeValidator(_one_lidar)] = Field(
        None, description="the LiDAR in whose frame boxes are and whose key frame dates a sample; not given: the first"
    )
    radars: Channels = Field((), description="radar channels, may be none")
    lidar_points: LidarPoints = Field(default_factory=LidarPoints, description="LiDAR files")
    radar_points: RadarPoints = Field(default_factory=RadarPoints, description="radar files")
    longest_past_s: Positive = Field(0.75, description="sweeps that are older than this are not used (s)")
    official_splits: Literal["nuscenes", "truckscenes"] | None = Field(
        None, description="the published lists of scenes that its scenes are in"
    )
    splits: dict[str, Names] = Field({}, description="splits of its own: names of scenes by split")
    evaluation: EvaluationDescription = Field(
        default_factory=EvaluationDescription, description="numbers of the detection metrics"
    )
    camera_rows: tuple[Names, ...] = Field((), description="cameras as pictures arrange them; not given: row by row")

    @property
    def text_name(self) -> str:
        """As texts write it."""
        return self.title or self.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Detection classes; a label is an index into them."""
        return tuple(self.classes)

    @property
    def head_tasks(self) -> HeadTasks:
        """The classes of each task of the detection head."""
        return tuple(task.classes for task in self.tasks)

    @property
    def label_of_category(self) -> dict[str, int]:
        """Label of each category of the tables that is detected."""
        return {category: label for label, own in enumerate(self._categories()) for category in own}

    @property
    def categories(self) -> tuple[str, ...]:
        """All known categories of the tables: the detected ones in label order, then the others."""
        detected = tuple(self.label_of_category)
        others = dict.fromkeys((*self.other_categories, *self.ignored_inside.categories))
        return (*detected, *others)

    @property
    def attributes(self) -> tuple[str, ...]:
        """All attributes of objects, class by class."""
        return tuple(dict.fromkeys(name for entry in self.classes.values() for name in entry.attributes))

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels: cameras, LiDARs, radars."""
        return (*self.cameras, *self.lidars, *self.radars)

    @property
    def reference(self) -> str:
        """Channel of the reference LiDAR."""
        return self.reference_lidar or self.lidars[0]

    @property
    def evaluated_classes(self) -> tuple[str, ...]:
        """Classes in the benchmark's order."""
        return self.evaluation.class_order or self.class_names

    @property
    def farthest_m(self) -> float:
        """The longest range that any class is evaluated to (m)."""
        return max(entry.range_m for entry in self.classes.values())

    @property
    def circle_nms_m2(self) -> dict[str, float]:
        """Threshold of circle NMS (m^2) of the tasks that use it, by first class."""
        return {task.classes[0]: task.circle_nms_m2 for task in self.tasks if task.circle_nms_m2 is not None}

    @property
    def nms_size_factors(self) -> dict[str, float]:
        """Factors on width and length for rotated NMS, by class, those of 1 left out."""
        return {name: entry.nms_size_factor for name, entry in self.classes.items() if entry.nms_size_factor != 1}

    @property
    def pasted_objects(self) -> dict[str, int]:
        """Objects that a sample is filled up to, by class."""
        return {name: entry.paste for name, entry in self.classes.items()}

    @property
    def response_weights(self) -> tuple[float, ...]:
        """Weight of each head task in response distillation."""
        return tuple(
            (1.0 if any(self.classes[name].static for name in task.classes) else 2.0)
            if task.response_weight is None
            else task.response_weight
            for task in self.tasks
        )

    @property
    def colours(self) -> dict[str, str]:
        """Colour of each class, '#rrggbb'; those that are not given differ from the others."""
        given = [entry.colour for entry in self.classes.values() if entry.colour]
        free = iter(distinguishable_colours(len(self.classes), given))
        return {name: entry.colour or next(free) for name, entry in self.classes.items()}

    @property
    def glyphs(self) -> dict[str, str | None]:
        """Matplotlib marker of each class in the bird's-eye view, None for the plain box."""
        return {name: _marker(name, entry.glyph) for name, entry in self.classes.items()}

    @property
    def tags(self) -> dict[str, str]:
        """Name of each class where there is little room."""
        return {name: entry.tag or name.replace("_", " ")[:_LONGEST_TAG] for name, entry in self.classes.items()}

    @property
    def camera_titles(self) -> dict[str, str]:
        """What pictures call each camera: its channel without the words that all begin with."""
        words, shared = [channel.split("_") for channel in self.cameras], 0
        while shared + 1 < min(map(len, words), default=1) and len({own[shared] for own in words}) == 1:
            shared += 1
        return {channel: " ".join(own[shared:]).lower() for channel, own in zip(self.cameras, words, strict=True)}

    @property
    def rows_of_cameras(self) -> tuple[tuple[str, ...], ...]:
        """Cameras as pictures arrange them."""
        return self.camera_rows or _evenly(self.cameras)

    def _categories(self) -> tuple[tuple[str, ...], ...]:
        return tuple(entry.categories or (name,) for name, entry in self.classes.items())

    @model_validator(mode="before")
    @classmethod
    def _a_task_each(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("classes"), dict) and values.get("tasks") is None:
            return {**values, "tasks": [{"classes": [name]} for name in values["classes"]]}
        return values

    @model_validator(mode="after")
    def _names_of_classes(self) -> "DatasetDescription":
        for name in self.classes:
            if not _CLASS_NAME.fullmatch(name) or name in _TAKEN_NAMES:
                raise ValueError(
                    f"a class is named by letters, digits and underscores, and not {' or '.join(_TAKEN_NAMES)}; found "
                    f"{quoted(name)}"
                )
        return self

    @model_validator(mode="after")
    def _some_attributes(self) -> "DatasetDescription":
        if len(self.attributes) > MOST_ATTRIBUTES:
            raise ValueError(f"objects have {len(self.attributes)} attributes in all (at most {MOST_ATTRIBUTES})")
        return self

    @model_validator(mode="after")
    def _categories_of_one_class(self) -> "DatasetDescription":
        classes_of: dict[str, list[str]] = {}
        for name, own in zip(self.classes, self._categories(), strict=True):
            for category in own:
                classes_of.setdefault(category, []).append(f"the class {name}")
        for field, names in (
            ("other_categories", self.other_categories),
            ("ignored_inside", self.ignored_inside.categories),
        ):
            for category in names:
                if category in classes_of:
                    classes_of[category].append(field)
        for category, users in classes_of.items():
            if len(users) > 1:
                raise ValueError(f"the category {quoted(category)} belongs to {' and '.join(users)}; keep it in one")
        return self

    @model_validator(mode="after")
    def _classes_in_tasks(self) -> "DatasetDescription":
        listed = [name for task in self.tasks for name in task.classes]
        self._refuse_unknown("tasks", listed)
        for name, times in Counter(listed).items():
            if times > 1:
                raise ValueError(f"the class {name} is in {times} tasks; keep it in one")
        for name in self.classes:
            if name not in listed:
                raise ValueError(f"the class {name} is in no task; add it to one, or leave out tasks for one a class")
        for name, expected in zip(listed, self.classes, strict=True):
            if name != expected:
                raise ValueError(
                    f"tasks list the classes in label order, so that {expected} comes before {name}; change the order "
                    "of tasks or of classes"
                )
        return self

    @model_validator(mode="after")
    def _classes_elsewhere(self) -> "DatasetDescription":
        self._refuse_unknown("ignored_inside.classes", self.ignored_inside.classes)
        order = self.evaluation.class_order
        self._refuse_unknown("evaluation.class_order", order)
        absent = [name for name in self.classes if name not in order]
        if order and absent:
            raise ValueError(f"evaluation.class_order lists every class, and lacks {absent[0]}; add it")
        return self

    @model_validator(mode="after")
    def _known_channels(self) -> "DatasetDescription":
        for channel, times in Counter(self.channels).items():
            if times > 1:
                raise ValueError(f"the channel {quoted(channel)} is listed {times} times; a channel is one sensor's")
        if self.reference not in self.lidars:
            raise ValueError(
                f"reference_lidar is one of lidars ({', '.join(self.lidars)}), found {quoted(self.reference)}"
            )
        shown = [channel for row in self.camera_rows for channel in row]
        for channel, times in Counter(shown).items():
            if channel not in self.cameras:
                raise ValueError(
                    f"camera_rows name the unknown camera {quoted(channel)}; cameras are "
                    f"{', '.join(self.cameras) or 'none'}"
                )
            if times > 1:
                raise ValueError(f"camera_rows show {channel} {times} times; once is enough")
        return self

    @model_validator(mode="after")
    def _a_split_a_scene(self) -> "DatasetDescription":
        if self.splits and self.official_splits:
            raise ValueError("splits and official_splits both say which scenes are in which split; leave out one")
        splits_of: dict[str, list[str]] = {}
        for split, scenes in self.splits.items():
            for scene in scenes:
                splits_of.setdefault(scene, []).append(split)
        for scene, splits in splits_of.items():
            if len(splits) > 1:
                raise ValueError(f"the scene {quoted(scene)} is in the splits {' and '.join(splits)}; keep it in one")
        return self

    def _refuse_unknown(self, field: str, names: Iterable[str]) -> None:
        unknown = [name for name in names if name not in self.classes]
        if unknown:
            raise ValueError(
                f"{field} name the unknown class {quoted(unknown[0])}; the classes are {', '.join(self.classes)}"
            )


def _marker(name: str, glyph: str) -> str | None:
    if glyph == "none":
        return None
    return f"${name[0].upper()}$" if glyph == "letter" else glyph


def _evenly(cameras: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Rows of nearly equal length, at most four long."""
    few, most = _CAMERAS_A_ROW
    rows = -(-len(cameras) // (few if len(cameras) <= 2 * few else most))
    return tuple(cameras[index * len(cameras) // rows : (index + 1) * len(cameras) // rows] for index in range(rows))
