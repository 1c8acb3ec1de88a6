"""When each sensor fires: key frames twice a second, and the sweeps that are kept between them."""

from dataclasses import dataclass

import numpy as np

from crkd_core.datasets.simulated.config import KEY_FRAME_PERIOD_S, SimulationConfig, sweeps_between
from crkd_core.datasets.simulated.sensors.rig import Sensor


@dataclass(frozen=True)
class Shot:
    """One firing: time from the first key frame (may be negative), its key frame, and whether it is that key frame."""

    time_us: int
    sample: int
    is_key_frame: bool


def shots(sensor: Sensor, config: SimulationConfig) -> list[Shot]:
    """All firings of a sensor that are kept in a scene, in order of time.

    A sensor runs freely at its own rate; of the firings between two key frames the last ones are kept. As in nuScenes
    there is none before a scene's first key frame (unless `config.lead_in`), and a sweep belongs to the key frame that
    follows it.
    """
    kept = {
        "lidar": config.lidar_sweeps_per_key_frame,
        "radar": config.radar_sweeps_per_key_frame,
        "camera": config.camera_sweeps_per_key_frame,
    }[sensor.modality]
    period = 1.0 / sensor.rate_hz
    out = []
    for sample in range(config.samples_per_scene):
        key = sample * KEY_FRAME_PERIOD_S + sensor.offset_s
        if kept and (sample > 0 or config.lead_in):
            between = np.arange(1, sweeps_between(sensor.rate_hz) + 1)
            times = key - between[::-1] * period
            out += [Shot(_us(t), sample, False) for t in times[max(0, len(times) - kept) :]]
        out.append(Shot(_us(key), sample, True))
    return out


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
