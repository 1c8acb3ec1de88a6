"""The sensors of a data set by channel: columns of tables refer to them by number."""

from dataclasses import dataclass
from functools import cached_property

from crkd_core.config.description import DatasetDescription


@dataclass(frozen=True)
class SensorChannels:
    """Names of the sensors that are read, numbered through: cameras, then LiDARs, then radars.

    Attributes:
        lidars: the reference first, whose frame at the key frame is the model's.
        radars: may be none.
    """

    cameras: tuple[str, ...]
    lidars: tuple[str, ...]
    radars: tuple[str, ...]

    @staticmethod
    def of(description: DatasetDescription) -> "SensorChannels":
        """Those of a data set."""
        reference = description.reference
        others = tuple(name for name in description.lidars if name != reference)
        return SensorChannels(description.cameras, (reference, *others), description.radars)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All channels by number."""
        return (*self.cameras, *self.lidars, *self.radars)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of every channel by name."""
        return {name: number for number, name in enumerate(self.names)}

    @property
    def reference(self) -> str:
        """The LiDAR whose frame is the model's."""
        return self.lidars[0]

    @property
    def reference_number(self) -> int:
        """Number of :attr:`reference`."""
        return len(self.cameras)

    @property
    def lidar_numbers(self) -> range:
        """Numbers of the LiDARs."""
        return range(len(self.cameras), len(self.cameras) + len(self.lidars))

    @property
    def radar_numbers(self) -> range:
        """Numbers of the radars."""
        return range(len(self.cameras) + len(self.lidars), len(self.names))

    def is_camera(self, number: int) -> bool:
        """Whether a number is a camera's."""
        return 0 <= number < len(self.cameras)
