"""A first description of a data set in nuScenes' tables, written from what is there, to be edited."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crkd_core.config.description import ClassDescription
from crkd_core.config.description_files import nuscenes, validate_description
from crkd_core.config.yaml_reader import read_yaml, yaml_word
from crkd_core.datasets.nuscenes.image_files import image_size_px
from crkd_core.datasets.nuscenes.point_files import look_at_lidars, look_at_radars
from crkd_core.datasets.nuscenes.recognition import CAMERA, LIDAR, RADAR, recognise, sensors_of
from crkd_core.datasets.nuscenes.records import TableReader
from crkd_core.datasets.nuscenes.splits import SPLITS_NAME
from crkd_core.datasets.nuscenes.table_records import (
    AnnotationRecord,
    CalibrationRecord,
    InstanceRecord,
    NameRecord,
    SampleDataRecord,
    SceneTableRecord,
    SensorRecord,
)
from crkd_core.errors import DatasetError
from crkd_core.progress import format_count

_WIDTH = 110
_SCENES_NAMED = 3
_FILES_NAMED = 3
_OWN_DEFAULTS = (
    "range_m",
    "unscored",
    "half_turn",
    "static",
    "longer_than_wide",
    "plausible_length_m",
    "nms_size_factor",
)
_STANDING = ("parked", "stopped", "standing", "without", "static")
_MOVING = ("moving", "with_rider", "driving", "dynamic")


@dataclass
class _Channel:
    """What the tables say of one sensor."""

    modality: str
    key_frames: int = 0
    records: int = 0
    sizes_px: set[tuple[int, int]] = field(default_factory=set)
    files: list[str] = field(default_factory=list)
    timestamps_us: list[int] = field(default_factory=list)


@dataclass
class _Category:
    """Boxes of one category, and attributes of theirs."""

    boxes: int = 0
    attributes: Counter[str] = field(default_factory=Counter)


def describe_folder(folder: Path) -> str:
    """The YAML text of a description: channels, categories, attributes, image sizes and the layout of point files.

    Args:
        folder: of the tables; sensor files are beside it.

    Raises:
        DatasetError: a table is missing or damaged, or there is no LiDAR or no annotation.
    """
    channels = _read_channels(folder)
    categories = _read_categories(folder)
    text = "\n".join(_lines(folder, channels, categories)) + "\n"
    validate_description(read_yaml(text, "the description"), "the description")
    return text


def _read_channels(folder: Path) -> dict[str, _Channel]:
    modalities = sensors_of(folder)
    sensors = TableReader(folder, "sensor", SensorRecord)
    name_of = sensors.index(lambda record: sensors.text(record, "channel"))
    calibrations = TableReader(folder, "calibrated_sensor", CalibrationRecord)
    name_of_calibration = calibrations.index(lambda r: calibrations.find(name_of, r, "sensor_token", "sensor"))
    channels = {name: _Channel(modality or _by_name(name)) for name, modality in modalities.items()}
    table = TableReader(folder, "sample_data", SampleDataRecord)
    for batch in table.batches():
        key_frames = table.flags(batch, "is_key_frame").tolist()
        for record, is_key_frame in zip(batch, key_frames, strict=True):
            name = table.find(name_of_calibration, record, "calibrated_sensor_token", "calibrated_sensor")
            channel = channels[name]
            channel.records += 1
            channel.key_frames += is_key_frame
            if is_key_frame and channel.modality == CAMERA:
                channel.sizes_px.add(
                    (table.integer(record, "width", default=0), table.integer(record, "height", default=0))
                )
            if is_key_frame and len(channel.files) < _FILES_NAMED:
                channel.files.append(table.text(record, "filename"))
                channel.timestamps_us.append(int(table.timestamps_us([record])[0]))
    return {name: channel for name, channel in channels.items() if channel.key_frames}


def _by_name(channel: str) -> str:
    words = {"cam": CAMERA, "lid": LIDAR, "radar": RADAR}
    return next((modality for word, modality in words.items() if word in channel.lower()), "")


def _read_categories(folder: Path) -> dict[str, _Category]:
    table = TableReader(folder, "category", NameRecord)
    name_of = table.index(lambda record: table.text(record, "name").strip())
    instances = TableReader(folder, "instance", InstanceRecord)
    name_of_instance = instances.index(lambda r: instances.find(name_of, r, "category_token", "category"))
    attributes = TableReader(folder, "attribute", NameRecord)
    attribute_of = attributes.index(lambda record: attributes.text(record, "name"))
    categories = {name: _Category() for name in name_of.values()}
    annotations = TableReader(folder, "sample_annotation", AnnotationRecord)
    for record in annotations:
        category = categories[annotations.find(name_of_instance, record, "instance_token", "instance")]
        category.boxes += 1
        for token in annotations.tokens(record, "attribute_tokens"):
            if str(token) in attribute_of:
                category.attributes[attribute_of[str(token)]] += 1
    return categories


def _lines(folder: Path, channels: Mapping[str, _Channel], categories: Mapping[str, _Category]) -> Iterator[str]:
    of_kind = {kind: [n for n, c in channels.items() if c.modality == kind] for kind in (CAMERA, LIDAR, RADAR)}
    if not of_kind[LIDAR]:
        raise DatasetError(
            f"sensor.json and sample_data.json of {folder} have no key frame of a LiDAR (found "
            f"{', '.join(channels) or 'none'}); boxes are in the frame of one: expected its records."
        )
    yield f"# What {folder} holds. Edit it, then: crkd prepare --nuscenes {folder.parent} --dataset FILE.yaml"
    yield f"name: {yaml_word(_slug(folder.resolve().parent.name) or 'own')}"
    yield f"format: {_format_of(folder)}"
    yield ""
    yield from _class_lines(categories)
    yield ""
    yield "# Classes of one task share convolutions and suppression. Not given: one task a class."
    yield "# tasks: [{classes: [...]}, ...]"
    yield ""
    yield from _camera_lines(folder.parent, {name: channels[name] for name in of_kind[CAMERA]})
    yield from _lidar_lines(folder.parent, {name: channels[name] for name in of_kind[LIDAR]})
    yield from _radar_lines(folder.parent, {name: channels[name] for name in of_kind[RADAR]})
    unknown = [name for name, channel in channels.items() if channel.modality not in of_kind]
    if unknown:
        yield f"# sensor.json does not say what these are: {', '.join(unknown)}"
    yield ""
    yield from _split_lines(folder)


def _format_of(folder: Path) -> str:
    """Reader of the tables: that of the data set whose sensors these are, else nuScenes' own."""
    try:
        return recognise(folder).format
    except DatasetError:
        return nuscenes().format


def _class_lines(categories: Mapping[str, _Category]) -> Iterator[str]:
    # Before anything is annotated, every category may be.
    known, seen = nuscenes(), {name: entry for name, entry in categories.items() if entry.boxes} or categories
    regions = [name for name in seen if name in known.ignored_inside.categories]
    others = [name for name in seen if name in known.other_categories]
    classes: dict[str, list[str]] = {}
    for name in sorted(seen, key=lambda name: -seen[name].boxes):
        if name not in (*regions, *others):
            classes.setdefault(_class_of(name, classes), []).append(name)
    if not classes:
        raise DatasetError(
            f"category.json has no category that could be detected (found {', '.join(seen) or 'none at all'}); a "
            "description needs classes: write it by hand."
        )
    yield "# Detection classes, each with the categories of category.json that it stands for. Join, rename or remove"
    yield "# some; what is left out may be listed in other_categories."
    yield "classes:"
    for name, own in classes.items():
        boxes = sum(seen[category].boxes for category in own)
        yield f"  {name}:  # {format_count(boxes, 'box', 'boxes')}"
        yield from _field("categories", own, 4)
        attributes = sum((seen[category].attributes for category in own), Counter[str]())
        yield from _properties(known.classes.get(name), list(attributes), attributes)
    yield ""
    absent = [name for name in categories if name not in seen]
    for name in others:
        yield f"# {name}: {format_count(seen[name].boxes, 'box', 'boxes')}"
    yield from _field("other_categories", [*others, *absent], 0)
    kept = [name for name in known.ignored_inside.classes if name in classes]
    if regions and kept:
        yield f"ignored_inside: {{categories: [{_words(regions)}], classes: [{_words(kept)}]}}"


def _class_of(category: str, taken: Mapping[str, Sequence[str]]) -> str:
    """nuScenes' class that a category means, or a class of its own."""
    known = nuscenes()
    if category in known.label_of_category:
        return known.class_names[known.label_of_category[category]]
    for text in (category, category.rpartition(".")[2]):
        name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
        if name in known.class_names:
            return name
    name = name if name[:1].isalpha() and name not in ("all", "mean") else f"class_{name or 'unnamed'}"
    while name in taken:
        name += "_2"
    return name


def _properties(known: ClassDescription | None, attributes: Sequence[str], counts: Mapping[str, int]) -> Iterator[str]:
    values = known.model_dump(mode="json", include={*_OWN_DEFAULTS}, exclude_defaults=True) if known else {}
    values["range_m"] = known.range_m if known else ClassDescription().range_m
    unscored = list(values.pop("unscored", ()))
    if not attributes and "attribute" not in unscored:
        unscored.append("attribute")
    for name, value in values.items():
        yield f"    {name}: {json.dumps(value)}"
    if unscored:
        yield from _field("unscored", unscored, 4)
    if attributes:
        yield from _field("attributes", attributes, 4)
        by_count = sorted(attributes, key=lambda name: -counts[name])
        for name, words in (("when_moving", _MOVING), ("when_standing", _STANDING)):
            fitting = [attribute for attribute in by_count if _speaks_of(attribute, words)]
            if fitting:
                yield f"    {name}: {yaml_word(fitting[0])}"


def _speaks_of(attribute: str, words: Iterable[str]) -> bool:
    return any(word in attribute.lower() for word in words)


def _camera_lines(dataroot: Path, cameras: Mapping[str, _Channel]) -> Iterator[str]:
    yield "# Cameras, in the order of pictures; their images may differ in size."
    for name, channel in cameras.items():
        sizes = {_size_px(dataroot, channel) if 0 in size else size for size in channel.sizes_px}
        shown = ", ".join(f"{width} x {height} px" for width, height in sorted(sizes)) or "no image found"
        yield f"# {name}: {shown}, {format_count(channel.key_frames, 'key frame')}"
    yield from _field("cameras", list(cameras), 0, always=True)
    yield ""


def _size_px(dataroot: Path, channel: _Channel) -> tuple[int, int]:
    present = [dataroot / path for path in channel.files if (dataroot / path).is_file()]
    return image_size_px(present[0]) if present else (0, 0)


def _lidar_lines(dataroot: Path, lidars: Mapping[str, _Channel]) -> Iterator[str]:
    yield "# LiDARs: the first, or reference_lidar, is the one in whose frame boxes are predicted."
    yield from _counts(lidars)
    yield from _field("lidars", list(lidars), 0)
    seen = look_at_lidars(
        {name: [(dataroot / p, t) for p, t in zip(c.files, c.timestamps_us)] for name, c in lidars.items()}
    )
    yield from (f"# {line}" for line in seen.remarks)
    yield f"lidar_points: {seen.values}"
    yield ""


def _radar_lines(dataroot: Path, radars: Mapping[str, _Channel]) -> Iterator[str]:
    if not radars:
        yield "# No radar: camera-radar students cannot be trained on these data."
        yield "radars: []"
        return
    yield "# Radars."
    yield from _counts(radars)
    yield from _field("radars", list(radars), 0)
    seen = look_at_radars([dataroot / path for channel in radars.values() for path in channel.files])
    yield from (f"# {line}" for line in seen.remarks)
    yield f"radar_points: {seen.values}"


def _counts(channels: Mapping[str, _Channel]) -> Iterator[str]:
    for name, channel in channels.items():
        sweeps = format_count(channel.records - channel.key_frames, "sweep")
        yield f"# {name}: {format_count(channel.key_frames, 'key frame')}, {sweeps} between"


def _split_lines(folder: Path) -> Iterator[str]:
    table = TableReader(folder, "scene", SceneTableRecord)
    scenes = [table.text(record, "name") for record in table]
    named = ", ".join(scenes[:_SCENES_NAMED]) + (", ..." if len(scenes) > _SCENES_NAMED else "")
    yield f"# {format_count(len(scenes), 'scene')}: {named}"
    if (folder / SPLITS_NAME).exists():
        yield f"# {folder / SPLITS_NAME} says which are in which split."
        return
    yield f"# Which are for validation: --val-scenes FILE (a name a line), {SPLITS_NAME}, or here:"
    yield "# splits: {train: [scene, ...], val: [scene, ...]}"


def _field(name: str, values: Sequence[str], indent: int, always: bool = False) -> Iterator[str]:
    """A list of words, on as many lines as it needs."""
    if not values and not always:
        return
    start = f"{' ' * indent}{name}: ["
    line = start
    for number, value in enumerate(values):
        word = yaml_word(value) + ("," if number < len(values) - 1 else "]")
        if len(line) + len(word) > _WIDTH and line != start:
            yield line.rstrip()
            line = " " * (indent + 2)
        line += word + " "
    yield line.rstrip() if values else start + "]"


def _words(values: Iterable[str]) -> str:
    return ", ".join(map(yaml_word, values))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._")
