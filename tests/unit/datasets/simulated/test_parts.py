"""Single pieces of the simulator against what they must give."""

import numpy as np
import pytest

from crkd_core.config.description_files import nuscenes
from crkd_core.datasets.nuscenes.radar import RADAR_RECORD, encode_radar
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.assembly import Placement, assemble
from crkd_core.datasets.simulated.sensors.depth_order import order_footprints
from crkd_core.datasets.simulated.sensors.lidar import build_beams, scan
from crkd_core.datasets.simulated.sensors.radar import build_reflectors, detect
from crkd_core.datasets.simulated.sensors.radar_points import SensorMotion
from crkd_core.datasets.simulated.sensors.rig import build_rig
from crkd_core.datasets.simulated.sensors.rig_description import package_rig
from crkd_core.datasets.simulated.shapes.solids import ShapeBuilder
from crkd_core.datasets.simulated.world.catalog import KINDS
from crkd_core.datasets.simulated.world.ground import build_ground
from crkd_core.datasets.simulated.world.motion import Motion, Path, SpeedProfile, braking_profile, standing
from crkd_core.datasets.simulated.world.script import Conditions, RoadPlan, Thing, rectangles_meet, states
from crkd_core.geometry.transforms import rigid_transforms


def test_motion_follows_an_arc_and_stops_where_it_should():
    quarter = Path(0.0, 0.0, 0.0, ((10.0, 0.0), (5.0 * np.pi, 0.1)))
    x, y, yaw, curvature = quarter.at(np.array([-3.0, 10.0 + 5.0 * np.pi, 10.0 + 5.0 * np.pi + 4.0]))
    np.testing.assert_allclose(x, [-3.0, 20.0, 20.0], atol=1e-9)
    np.testing.assert_allclose(y, [0.0, 10.0, 14.0], atol=1e-9)
    np.testing.assert_allclose(yaw, [0.0, np.pi / 2, np.pi / 2])
    assert curvature.tolist() == [0.0, 0.0, 0.0]
    braking = braking_profile(8.0, 25.0)
    assert braking.distance(np.array([60.0]))[0] == pytest.approx(25.0)
    motion = Motion(quarter, SpeedProfile((0.0, 2.0), (4.0, 8.0)), 1.0)
    times = np.linspace(0.5, 4.0, 40)
    state, ahead = motion.at(times), motion.at(times + 1e-5)
    np.testing.assert_allclose((ahead.x - state.x) / 1e-5, state.vx, atol=1e-3)
    np.testing.assert_allclose((ahead.yaw - state.yaw) / 1e-5, state.yaw_rate, atol=1e-3)


def test_person_before_a_long_bus_is_drawn_last_although_the_bus_is_nearer():
    centres = np.array([[10.0, 3.0], [10.0, 1.2]])
    low, high = np.array([[-5.5, -1.4], [-0.3, -0.3]]), np.array([[5.5, 1.4], [0.3, 0.3]])
    spans = np.array([[0.0, 0.5], [0.1, 0.2]])
    for order in ([0, 1], [1, 0]):
        drawn = order_footprints(np.zeros(2), centres[order], np.zeros(2), low[order], high[order], spans[order])
        assert [order[k] for k in drawn] == [0, 1]


def test_rectangles_meet_only_when_they_touch():
    still = np.array([[0.0], [0.0], [0.0]])
    long = np.array([4.0, 1.0])
    beside = np.array([[0.0], [1.5], [0.0]])
    assert not rectangles_meet(still, long, beside, long, 0.4)
    assert rectangles_meet(still, long, beside, long, 0.6)
    assert rectangles_meet(still, long, np.array([[0.0], [1.5], [np.pi / 2]]), long, 0.0)


def _block(x: float) -> Thing:
    builder = ShapeBuilder()
    builder.box((-1.0, -20.0, 0.0), (1.0, 20.0, 6.0), (100, 100, 100), reflectivity=0.6)
    return Thing(builder.build(), standing(x, 0.0, 0.0), KINDS["car"].echo)


def test_lidar_measures_the_distance_of_a_wall_and_of_the_ground():
    things = (_block(21.0),)
    ground = build_ground(RoadPlan(100.0, (-30.0, 30.0), (-30.0, 30.0)), 0.5)
    placement = Placement(*(v[:, 0] for v in states(things, np.zeros(1))))
    world_from_sensor = rigid_transforms(np.eye(3), np.array([0.0, 0.0, 1.84]))
    clear = Conditions(night=False, rain=False, overcast=False)
    points = scan(build_beams(360), assemble(things), placement, world_from_sensor, ground, clear, _rng())
    assert points.dtype == np.float32
    assert set(np.unique(points[:, 4])) <= set(range(32))
    wall = points[(np.abs(points[:, 1]) < 15) & (points[:, 0] > 10) & (points[:, 2] > -1.5)]
    assert len(wall) > 500
    assert np.abs(wall[:, 0] - 20.0).max() < 0.12
    floor = points[points[:, 0] < 0]
    assert np.abs(floor[:, 2] + 1.84).max() < 0.1
    assert not ((points[:, 0] > 20.2) & (np.abs(points[:, 1]) < 18)).any()
    rain = Conditions(night=False, rain=True, overcast=True)
    wet = scan(build_beams(360), assemble(things), placement, world_from_sensor, ground, rain, _rng())
    assert len(wet) < 0.95 * len(points)


def test_radar_sees_the_closing_speed_and_takes_its_own_motion_out():
    kind = KINDS["car"]
    shape = kind.make(kind.size_wlh_m, _rng())
    coming = Motion(Path(30.0, 0.0, np.pi), SpeedProfile((0.0,), (6.0,)))
    things = (Thing(shape, coming, kind.echo, kind),)
    placement = Placement(*(v[:, 0] for v in states(things, np.zeros(1))))
    reflectors = build_reflectors(things, assemble(things))
    rng, radar = _rng(), package_rig("nuscenes").radars[0]
    sweeps = [detect(radar, reflectors, placement, SensorMotion(0.0, 0.0, 0.0, 5.0, 0.0), rng) for _ in range(60)]
    points = np.concatenate(sweeps)
    car = points[(np.abs(points["x"] - 27.8) < 1.0) & (np.abs(points["y"]) < 1.6) & (points["vx_comp"] < -3)]
    assert len(car) > 40
    assert np.median(car["vx_comp"]) == pytest.approx(-6.0, abs=0.1)
    assert np.median(car["vx"]) == pytest.approx(-11.0, abs=0.15)
    assert (points["z"] == 0).all()
    assert max(len(sweep) for sweep in sweeps) <= radar.most_points == 125
    counts = [int((np.abs(sweep["x"] - 27.8) < 1.0).sum()) for sweep in sweeps]
    assert min(counts) < max(counts)


def test_pcd_has_the_size_of_the_real_files_and_says_so_when_it_is_empty():
    points = np.zeros(3, dtype=RADAR_RECORD)
    points["x"] = (1.0, 2.0, 3.0)
    data = encode_radar(points)
    assert len(data) == 4096 + 43 * 3
    body = data[data.index(b"DATA binary\n") + 12 :]
    assert np.frombuffer(body, RADAR_RECORD, 3)["x"].tolist() == [1.0, 2.0, 3.0]
    assert b"FIELDS " + " ".join(RADAR_RECORD.names).encode() in data
    empty = encode_radar(np.zeros(0, dtype=RADAR_RECORD))
    assert b"WIDTH 1\n" in empty
    assert np.isnan(np.frombuffer(empty[empty.index(b"DATA binary\n") + 12 :], RADAR_RECORD, 1)["x"][0])


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_shape_fills_its_box_and_is_closed(name):
    kind = KINDS[name]
    for seed in range(3):
        shape = kind.make(kind.size_wlh_m, np.random.default_rng(seed))
        width, length, height = kind.size_wlh_m
        assert shape.high[2] - (shape.low[2] if kind.hangs else 0) == pytest.approx(height, abs=1e-6)
        assert shape.low[2] >= -1e-9
        assert np.abs(np.stack([shape.low, shape.high])[:, 0]).max() <= length / 2 + 0.16
        assert np.abs(np.stack([shape.low, shape.high])[:, 1]).max() <= width / 2 + 0.06
        middles = shape.corners.mean(axis=1)
        depths = shape.offsets - (shape.normals * middles[:, None]).sum(axis=-1)
        assert (depths > 0).all()


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_channel_of_nuscenes_is_mounted():
    assert set(build_rig(SimulationConfig())) == set(nuscenes().channels)
