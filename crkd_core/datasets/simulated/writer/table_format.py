"""What a data set format decides: tables, names, places, and how clouds are written. A file is a format."""

from abc import ABC, abstractmethod
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.sensors.rig import Sensor
from crkd_core.datasets.simulated.sensors.rig_description import RigDescription
from crkd_core.datasets.simulated.world.setting import Setting, World
from crkd_core.datasets.simulated.world.streams import Streams
from crkd_core.datasets.simulated.writer.table_files import Record, SceneRecords

if TYPE_CHECKING:
    from crkd_core.datasets.simulated.writer.stage import ScenePlan, Stage

FIRST_DAY = datetime(2018, 7, 2, 9, tzinfo=timezone.utc)


class TableFormat(ABC):
    """One format of nuScenes' family: linked JSON tables beside folders of sensor files."""

    tables: ClassVar[tuple[str, ...]]
    trailer_kind: ClassVar[str]
    """What the ego vehicle's own trailer is annotated as."""
    other_folders: ClassVar[tuple[str, ...]] = ()
    """Folders besides those of the sensors."""

    @abstractmethod
    def setting(self, index: int, duration_s: float, rig: RigDescription, density: float, streams: Streams) -> Setting:
        """Where the `index`-th scene of a split plays."""

    @abstractmethod
    def fixed_tables(self, rig: dict[str, Sensor]) -> dict[str, list[Record]]:
        """The tables that do not depend on the scenes."""

    @abstractmethod
    def start_us(self, plan: "ScenePlan", rng: np.random.Generator) -> int:
        """Time stamp of a scene's first key frame."""

    @abstractmethod
    def origin(self, setting: Setting, plan: "ScenePlan") -> Array:
        """(2,) global coordinates of the middle of a scene."""

    @abstractmethod
    def file_name(self, world: World, channel: str, timestamp_us: int) -> str:
        """Name of a sensor file without its suffix."""

    @abstractmethod
    def suffix(self, sensor: Sensor) -> str:
        """Suffix of a sensor's files."""

    @abstractmethod
    def encode_lidar(self, cloud: NDArray[np.float32], timestamp_us: int, period_s: float) -> bytes:
        """A LiDAR file of a cloud as :func:`~crkd_core.datasets.simulated.sensors.lidar.scan` gives it.

        Args:
            timestamp_us: when the revolution ended, and all points are as at that time.
            period_s: how long it took.
        """

    @abstractmethod
    def describe_scene(self, root: Path, stage: "Stage", scene: Record, tables: SceneRecords) -> None:
        """Add the scene record, completed by what the format says of it, and the tables that only this format has."""

    @abstractmethod
    def pose_token(self, world: World, channel: str, time_us: int) -> str:
        """Token of the ego pose of a sensor's firing."""
