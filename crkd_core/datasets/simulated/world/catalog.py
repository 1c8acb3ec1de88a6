"""What there is in the world: nuScenes categories with their typical sizes and how a radar sees them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from crkd_core.datasets.simulated.shapes import ego_truck, signs, small_things, vehicles
from crkd_core.datasets.simulated.shapes.solids import Shape
from crkd_core.datasets.simulated.shapes.vehicles import Size

ShapeMaker = Callable[[Size, np.random.Generator], Shape]


@dataclass(frozen=True)
class RadarEcho:
    """How strongly and how often a radar sees a thing.

    rcs_dbsm: mean radar cross section; facing_db: how much stronger it is when a flat side faces the radar;
    detections: mean number of detections at 20 m when in plain view; jitter_mps: spread of the radial velocity
    (swinging limbs, spokes); spread_db: how much one thing's mean cross section differs from another's of its kind.
    """

    rcs_dbsm: float
    facing_db: float
    detections: float
    jitter_mps: float = 0.08
    spread_db: float = 4.0

    def of_one(self, rng: np.random.Generator) -> "RadarEcho":
        """The echo of one thing of this kind: shapes and materials differ, so its strength hardly tells a class."""
        return replace(self, rcs_dbsm=self.rcs_dbsm + rng.normal(0, self.spread_db))


@dataclass(frozen=True)
class Kind:
    """One kind of annotated object."""

    category: str
    size_wlh_m: Size
    make: ShapeMaker
    echo: RadarEcho
    size_spread: float = 0.06
    with_rider: bool = False
    posture: str = ""
    mounting: str = ""
    hangs: bool = False
    """The shape does not begin at the ground, and neither does its box."""


_CAR = RadarEcho(10.0, 5.0, 3.2)
_BIG = RadarEcho(19.0, 6.0, 5.5)
_BIKE = RadarEcho(0.0, 2.0, 1.3, 0.2)
_MOTO = RadarEcho(4.0, 3.0, 1.7, 0.15)
_PERSON = RadarEcho(-5.0, 0.0, 0.9, 0.3)

KINDS: dict[str, Kind] = {
    "car": Kind("vehicle.car", (1.95, 4.6, 1.7), vehicles.car, _CAR),
    "police_car": Kind("vehicle.emergency.police", (1.95, 4.7, 1.75), lambda s, r: vehicles.car(s, r, "police"), _CAR),
    "ambulance": Kind(
        "vehicle.emergency.ambulance", (2.2, 6.2, 2.7), lambda s, r: vehicles.truck(s, r, "ambulance"), _BIG
    ),
    "truck": Kind("vehicle.truck", (2.5, 6.9, 2.8), vehicles.truck, _BIG, 0.09),
    "tractor": Kind("vehicle.truck", (2.5, 5.6, 3.1), lambda s, r: vehicles.truck(s, r, "tractor"), _BIG, 0.04),
    "bus": Kind("vehicle.bus.rigid", (2.9, 11.2, 3.5), vehicles.bus, _BIG, 0.05),
    "bendy_front": Kind("vehicle.bus.bendy", (2.9, 9.2, 3.4), lambda s, r: vehicles.bus(s, r, "front"), _BIG, 0.0),
    "bendy_rear": Kind("vehicle.bus.bendy", (2.9, 7.6, 3.4), lambda s, r: vehicles.bus(s, r, "rear"), _BIG, 0.0),
    "trailer": Kind("vehicle.trailer", (2.9, 12.3, 3.9), vehicles.trailer, _BIG, 0.05),
    "construction": Kind("vehicle.construction", (2.8, 6.4, 3.2), vehicles.construction_vehicle, _BIG, 0.08),
    "motorcycle": Kind(
        "vehicle.motorcycle",
        (0.8, 2.1, 1.5),
        lambda s, r: small_things.motorcycle(s, r, True),
        _MOTO,
        with_rider=True,
    ),
    "motorcycle_left": Kind(
        "vehicle.motorcycle", (0.8, 2.1, 1.25), lambda s, r: small_things.motorcycle(s, r, False), _MOTO
    ),
    "bicycle": Kind(
        "vehicle.bicycle",
        (0.6, 1.7, 1.6),
        lambda s, r: small_things.bicycle(s, r, True),
        _BIKE,
        with_rider=True,
    ),
    "bicycle_left": Kind("vehicle.bicycle", (0.6, 1.7, 1.1), lambda s, r: small_things.bicycle(s, r, False), _BIKE),
    "adult": Kind("human.pedestrian.adult", (0.7, 0.7, 1.8), small_things.pedestrian, _PERSON),
    "standing_adult": Kind(
        "human.pedestrian.adult",
        (0.65, 0.5, 1.75),
        lambda s, r: small_things.pedestrian(s, r, walking=False),
        _PERSON,
    ),
    "sitting_adult": Kind(
        "human.pedestrian.adult", (0.7, 0.9, 1.3), small_things.sitting_person, _PERSON, posture="sitting"
    ),
    "child": Kind("human.pedestrian.child", (0.55, 0.55, 1.3), small_things.pedestrian, _PERSON),
    "worker": Kind(
        "human.pedestrian.construction_worker",
        (0.7, 0.6, 1.8),
        lambda s, r: small_things.pedestrian(s, r, "worker", walking=False),
        _PERSON,
    ),
    "officer": Kind(
        "human.pedestrian.police_officer",
        (0.7, 0.6, 1.82),
        lambda s, r: small_things.pedestrian(s, r, "officer", walking=False),
        _PERSON,
    ),
    "wheelchair": Kind(
        "human.pedestrian.wheelchair",
        (0.75, 1.1, 1.35),
        lambda s, r: small_things.sitting_person(s, r, True),
        _PERSON,
        posture="sitting",
    ),
    "stroller": Kind("human.pedestrian.stroller", (0.6, 0.95, 1.1), small_things.stroller, _PERSON),
    "personal_mobility": Kind("human.pedestrian.personal_mobility", (0.7, 0.8, 1.9), small_things.pedestrian, _PERSON),
    "animal": Kind("animal", (0.35, 0.8, 0.6), small_things.animal, RadarEcho(-10.0, 0.0, 0.4, 0.3)),
    "debris": Kind(
        "movable_object.debris",
        (0.6, 0.8, 0.45),
        lambda s, r: small_things.crate(s, r, False),
        RadarEcho(-8.0, 2.0, 0.4),
    ),
    "pushable": Kind(
        "movable_object.pushable_pullable",
        (0.65, 0.7, 1.1),
        lambda s, r: small_things.crate(s, r, True),
        RadarEcho(0.0, 3.0, 0.8),
    ),
    "cone": Kind("movable_object.trafficcone", (0.4, 0.4, 1.1), small_things.traffic_cone, RadarEcho(-9.0, 0.0, 0.35)),
    "concrete_barrier": Kind(
        "movable_object.barrier",
        (2.5, 0.5, 1.0),
        lambda s, r: small_things.barrier(s, r, "concrete"),
        RadarEcho(0.0, 4.0, 1.0),
    ),
    "plastic_barrier": Kind(
        "movable_object.barrier",
        (2.5, 0.5, 1.0),
        lambda s, r: small_things.barrier(s, r, "plastic"),
        RadarEcho(-4.0, 3.0, 0.7),
    ),
    "forklift": Kind("vehicle.other", (1.3, 3.3, 2.2), vehicles.forklift, RadarEcho(8.0, 4.0, 2.2), 0.04),
    "ego_trailer": Kind("vehicle.ego_trailer", (2.55, 13.6, 4.0), lambda s, r: ego_truck.semi_trailer(s), _BIG, 0.0),
    "pole_sign": Kind(
        "static_object.traffic_sign",
        (0.9, 0.06, 0.9),
        lambda s, r: signs.plate(s, r, 2.2),
        RadarEcho(6.0, 6.0, 0.7),
        mounting="pole_mounted",
        hangs=True,
    ),
    "gantry_sign": Kind(
        "static_object.traffic_sign",
        (3.4, 0.1, 2.2),
        lambda s, r: signs.plate(s, r, 5.6),
        RadarEcho(12.0, 8.0, 1.4),
        mounting="overhanging",
        hangs=True,
    ),
    "temporary_sign": Kind(
        "static_object.traffic_sign",
        (0.9, 0.5, 1.6),
        signs.temporary,
        RadarEcho(3.0, 4.0, 0.6),
        mounting="temporary",
    ),
    "bicycle_rack": Kind(
        "static_object.bicycle_rack", (3.0, 1.6, 0.9), small_things.bicycle_rack, RadarEcho(4.0, 2.0, 1.2)
    ),
}

CLUTTER_ECHOES = {
    "building": RadarEcho(8.0, 8.0, 1.2),
    "wall": RadarEcho(3.0, 6.0, 1.2),
    "pole": RadarEcho(2.0, 0.0, 0.8),
    "tree": RadarEcho(-3.0, 0.0, 0.6),
    "kerb": RadarEcho(-7.0, 4.0, 0.9),
    "rail": RadarEcho(0.0, 5.0, 1.6),
    "steel": RadarEcho(12.0, 6.0, 1.6),
}
