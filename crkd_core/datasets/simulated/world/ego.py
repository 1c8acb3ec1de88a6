"""The ego vehicle as its own sensors see it: its body and the trailer that it tows."""

from dataclasses import replace

from crkd_core.datasets.simulated.sensors.rig_description import RigDescription, Trailer
from crkd_core.datasets.simulated.shapes.ego_truck import cab, semi_trailer
from crkd_core.datasets.simulated.world.catalog import KINDS, RadarEcho
from crkd_core.datasets.simulated.world.motion import Motion
from crkd_core.datasets.simulated.world.script import Thing

_NO_ECHO = RadarEcho(0.0, 0.0, 0.0)
_GAP_M = 0.45


def trailer_motion(trailer: Trailer, ego: Motion) -> Motion:
    """How the middle of the trailer follows the vehicle: along its path."""
    return replace(ego, s0=ego.s0 + trailer.front_ahead_m - trailer.length_m / 2)


def towed_trailer(rig: RigDescription, ego: Motion, kind: str) -> tuple[Thing, ...]:
    """The trailer as an annotated object of a kind of the catalogue; nothing where there is none."""
    trailer = rig.trailer
    if trailer is None:
        return ()
    shape = semi_trailer((trailer.width_m, trailer.length_m, trailer.height_m))
    return (Thing(shape, trailer_motion(trailer, ego), KINDS[kind].echo, KINDS[kind]),)


def seen_body(rig: RigDescription, ego: Motion) -> tuple[Thing, ...]:
    """The vehicle's own body before its trailer, which is never annotated; nothing where sensors look through it."""
    vehicle, trailer = rig.vehicle, rig.trailer
    if not vehicle.is_seen:
        return ()
    front = vehicle.centre_ahead_m + vehicle.length_m / 2
    back = front - vehicle.length_m
    if trailer is not None:
        back = max(back, trailer.front_ahead_m + _GAP_M)
    shape = cab((vehicle.width_m, front - back, vehicle.height_m))
    return (Thing(shape, replace(ego, s0=ego.s0 + (front + back) / 2), _NO_ECHO),)
