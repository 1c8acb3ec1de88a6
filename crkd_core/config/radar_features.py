"""The features that a radar point enters the network with, by name."""

from collections.abc import Sequence
from typing import Literal

RadarFeature = Literal[
    "x", "y", "z", "rcs", "vx", "vy", "vz", "time_lag", "dyn_prop", "ambig_state", "invalid_state", "pdh0"
]
POSITION: tuple[RadarFeature, ...] = ("x", "y", "z")
"""Model frame (m); they come first, because pillars are made by them."""
NUSCENES_FEATURES: tuple[RadarFeature, ...] = (
    *POSITION, "rcs", "vx", "vy", "time_lag", "dyn_prop", "ambig_state", "invalid_state", "pdh0",
)  # fmt: skip
"""The 45 columns of the published models; :mod:`crkd_core.datasets.nuscenes.radar` says what each means."""
COLUMNS: dict[RadarFeature, int] = {
    "x": 1, "y": 1, "z": 1, "rcs": 1, "vx": 1, "vy": 1, "vz": 1, "time_lag": 1, "dyn_prop": 8, "ambig_state": 5,
    "invalid_state": 18, "pdh0": 7,
}  # fmt: skip
"""Columns of each feature: codes are spread over several."""


def columns_of(features: Sequence[RadarFeature]) -> int:
    """Columns of all features together."""
    return sum(COLUMNS[name] for name in features)
