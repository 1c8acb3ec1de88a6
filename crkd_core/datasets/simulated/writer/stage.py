"""The stage of one scene: its world, and everything about sensors and light that stays the same during it."""

import math
from dataclasses import dataclass

import numpy as np

from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.sensors.assembly import Assembly, assemble
from crkd_core.datasets.simulated.sensors.backdrop import Backdrop, View, build_backdrop, build_view
from crkd_core.datasets.simulated.sensors.lidar import Beams, build_beams
from crkd_core.datasets.simulated.sensors.photo import Film
from crkd_core.datasets.simulated.sensors.radar import Reflectors, build_reflectors
from crkd_core.datasets.simulated.sensors.rig import Sensor, build_rig
from crkd_core.datasets.simulated.sensors.rig_description import RadarDescription
from crkd_core.datasets.simulated.world.ego import seen_body, towed_trailer
from crkd_core.datasets.simulated.world.ground import Ground
from crkd_core.datasets.simulated.world.setting import World
from crkd_core.datasets.simulated.world.streams import Streams, generator
from crkd_core.datasets.simulated.writer.formats import format_of
from crkd_core.datasets.simulated.writer.table_format import TableFormat
from crkd_core.geometry.transforms import rigid_transforms, rotations_about_z, transform_points

_LARGE_IMAGE_PX = 800
"""Images wider than this are rendered as they are; smaller ones twice as large, and then reduced."""


@dataclass(frozen=True)
class ScenePlan:
    """Which scene to make: its official name and its place in its split."""

    name: str
    index: int


@dataclass(frozen=True)
class Stage:
    """Everything that stays the same during a scene."""

    config: SimulationConfig
    format: TableFormat
    world: World
    rig: dict[str, Sensor]
    assembly: Assembly
    ground: Ground
    reflectors: Reflectors
    beams: dict[str, Beams]
    radars: dict[str, RadarDescription]
    views: dict[str, View]
    backdrop: Backdrop
    films: dict[tuple[int, int], Film]

    def film(self, sensor: Sensor) -> Film:
        """What a camera's pictures are developed on."""
        return self.films[sensor.width_px, sensor.height_px]


def build_world(config: SimulationConfig, plan: ScenePlan) -> World:
    """The script of a scene."""
    form, rig = format_of(config), config.vehicle_rig
    rng, agents, clutter = (generator(config.seed, plan.name, part) for part in ("scenario", "agents", "clutter"))
    duration_s = config.samples_per_scene * 0.5
    setting = form.setting(plan.index, duration_s, rig, config.density, Streams(rng, agents, clutter))
    yaw = float(rng.uniform(-math.pi, math.pi))
    global_from_world = rigid_transforms(rotations_about_z(yaw), np.zeros(3))
    turned = transform_points(global_from_world, setting.middle)
    global_from_world[:2, 3] = form.origin(setting, plan) - turned[:2]
    ego = setting.ego
    things = (*setting.agents, *towed_trailer(rig, ego, form.trailer_kind), *setting.clutter, *seen_body(rig, ego))
    return World(plan.name, setting, things, global_from_world, form.start_us(plan, rng))


def set_stage(config: SimulationConfig, plan: ScenePlan) -> Stage:
    """Everything a scene needs before the first sensor fires."""
    world = build_world(config, plan)
    rig, description = build_rig(config), config.vehicle_rig
    ground = world.setting.paint(0.1 if config.image_width > _LARGE_IMAGE_PX else 0.16)
    lamps = np.array(
        [(t.motion.path.x, t.motion.path.y) for t in world.things if t.kind is None and 6.9 < t.shape.high[2] < 7]
    )
    cameras = [sensor for sensor in rig.values() if sensor.modality == "camera"]
    density = config.lidar_azimuth_steps / description.reference.azimuth_steps
    assembly = assemble(world.things)
    return Stage(
        config=config,
        format=format_of(config),
        world=world,
        rig=rig,
        assembly=assembly,
        ground=ground,
        reflectors=build_reflectors(world.things, assembly),
        beams={
            lidar.channel: build_beams(max(36, round(lidar.azimuth_steps * density)), lidar)
            for lidar in description.lidars
        },
        radars={radar.channel: radar for radar in description.radars},
        views={
            camera.channel: build_view(camera, 1 if camera.width_px > _LARGE_IMAGE_PX else 2, world.setting.sight_m)
            for camera in cameras
        },
        backdrop=build_backdrop(
            ground, world.conditions, lamps.reshape(-1, 2), generator(config.seed, plan.name, "backdrop")
        ),
        films={
            size: Film(*size, world.conditions, generator(config.seed, plan.name, "film"))
            for size in dict.fromkeys((camera.width_px, camera.height_px) for camera in cameras)
        },
    )
