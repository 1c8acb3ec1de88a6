"""nuScenes' 23 categories, the 10 detection classes they map to, and the attributes a class can have."""

from collections.abc import Iterable
from difflib import get_close_matches

from crkd_core.config.classes import DETECTION_CLASSES

CLASS_OF_CATEGORY: dict[str, str] = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.construction": "construction_vehicle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "movable_object.barrier": "barrier",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
}
"""Detection class of the 14 categories that have one; the other nine (animals, debris, ...) are not detected."""

BICYCLE_RACK = "static_object.bicycle_rack"
"""Category of the racks; bicycles and motorcycles that stand in one are not evaluated."""

CATEGORIES: tuple[str, ...] = (
    *CLASS_OF_CATEGORY,
    "human.pedestrian.personal_mobility",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "animal",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    BICYCLE_RACK,
)
"""nuScenes' own categories of annotated objects."""

ATTRIBUTES: tuple[str, ...] = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
)

_VEHICLES = {"car", "truck", "construction_vehicle", "bus", "trailer"}
_CYCLES = {"motorcycle", "bicycle"}


def detection_label(category: str) -> int | None:
    """Index into ``DETECTION_CLASSES`` of a category, None where the benchmark does not detect it."""
    name = CLASS_OF_CATEGORY.get(category)
    return None if name is None else DETECTION_CLASSES.index(name)


def similar_category(name: str) -> str | None:
    """The category of nuScenes that a name is most like, by the whole of it, its last part or the class it maps to."""
    by_class = {detection_class: category for category, detection_class in reversed(CLASS_OF_CATEGORY.items())}
    return _similar(name, CATEGORIES, by_class)


def similar_attribute(name: str) -> str | None:
    """The attribute of nuScenes that a name is most like, by the whole of it or its last part."""
    return _similar(name, ATTRIBUTES, {})


def _similar(name: str, official: Iterable[str], also: dict[str, str]) -> str | None:
    known = {full.rpartition(".")[2]: full for full in reversed(tuple(official))} | also
    known |= {full: full for full in official}
    for part in (name.lower(), name.lower().rpartition(".")[2]):
        close = get_close_matches(part, known, n=1, cutoff=0.7)
        if close:
            return known[close[0]]
    return None


def attributes_of(detection_class: str) -> tuple[str, ...]:
    """The attributes a detection class can have; none for barrier and traffic_cone."""
    if detection_class in _VEHICLES:
        prefix = "vehicle."
    elif detection_class in _CYCLES:
        prefix = "cycle."
    elif detection_class == "pedestrian":
        prefix = "pedestrian."
    else:
        return ()
    return tuple(name for name in ATTRIBUTES if name.startswith(prefix))
