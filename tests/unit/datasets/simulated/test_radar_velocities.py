"""What vx, vy and vx_comp, vy_comp of a radar point mean: one law, for the real frame and for simulated ones."""

from pathlib import Path

import numpy as np
import pytest

from crkd_core.datasets.nuscenes.radar import read_radar

REAL = Path(__file__).resolve().parents[5] / "shared" / "real-nuscenes"
STANDING = (1, 3, 7)
STEP_MPS = 0.25


def simulated_frames(world):
    return [read_radar(path) for path in sorted(world.glob("s*/RADAR_FRONT/*.pcd"))]


def real_frame():
    files = list(REAL.glob("samples/RADAR_FRONT/*.pcd"))
    if not files:
        pytest.skip("the real key frame is not beside the repository")
    return read_radar(files[0])


def vectors(records):
    """Direction to the points, velocity against the sensor, and over ground: each (P, 2)."""
    columns = [("x", "y"), ("vx", "vy"), ("vx_comp", "vy_comp")]
    position, relative, over_ground = (
        np.stack([records[name].astype(np.float64) for name in names], axis=1) for names in columns
    )
    return position / np.linalg.norm(position, axis=1, keepdims=True), relative, over_ground


def along(vector, direction):
    return (vector * direction).sum(axis=1)


def own_velocity(records):
    """(2,) the sensor's velocity, as the difference of the two velocities along the line of sight tells."""
    direction, relative, over_ground = vectors(records)
    return np.linalg.lstsq(direction, along(over_ground - relative, direction), rcond=None)[0]


def share_radial(vector, direction):
    fast = np.linalg.norm(vector, axis=1) > 0.3
    cosine = np.abs(along(vector, direction)[fast]) / np.linalg.norm(vector, axis=1)[fast]
    return float((cosine > np.cos(np.radians(2))).mean())


def check_meaning(records, rounding_mps):
    """vx_comp, vy_comp are radial: vx, vy with the sensor's own velocity added, along the line of sight.

    What stands has minus the sensor's velocity and its turning in vx, vy; what moves has no vy.
    """
    direction, relative, over_ground = vectors(records)
    own = own_velocity(records)
    ground = relative + own
    np.testing.assert_allclose(along(over_ground, direction), along(ground, direction), atol=rounding_mps)
    assert share_radial(over_ground, direction) > 0.99
    standing = np.isin(records["dyn_prop"], STANDING)
    turned = np.stack([records["y"], -records["x"]], axis=1)[standing].astype(np.float64)
    yaw_rate = np.linalg.lstsq(turned.reshape(-1, 1), ground[standing].ravel(), rcond=None)[0]
    rest = ground[standing] - yaw_rate * turned
    assert np.sqrt((rest**2).mean()) < STEP_MPS
    assert np.linalg.norm(own) > 3 * STEP_MPS
    assert (relative[~standing][:, 1] == 0).all()
    steps = relative / STEP_MPS
    np.testing.assert_array_equal(steps, np.round(steps))


def test_on_the_real_frame():
    records = real_frame()
    check_meaning(records, rounding_mps=1e-5)
    assert share_radial(vectors(records)[1], vectors(records)[0]) < 0.2


def test_on_simulated_frames(tiny_world):
    frames = simulated_frames(tiny_world.root)
    moving = [records for records in frames if np.linalg.norm(own_velocity(records)) > 1.0]
    assert len(moving) >= 5
    for records in moving:
        check_meaning(records, rounding_mps=STEP_MPS)
    shares = [share_radial(relative, direction) for direction, relative, _ in map(vectors, moving)]
    assert np.mean(shares) < 0.4
    assert sum(len(records) for records in moving) > 300
