"""What to prepare, and whether the options go together."""

from dataclasses import dataclass
from pathlib import Path

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.location import absolute
from crkd_core.config.data import NUSCENES_COLUMNS
from crkd_core.config.numbers import MOST_SWEEPS
from crkd_core.datasets.nuscenes.availability import ALLOWABLE
from crkd_core.errors import UsageError

STAGE = "prepare"
WITHOUT_LIDAR = "-no-lidar"


@dataclass(frozen=True)
class PrepareRequest:
    """What to prepare.

    Attributes:
        nuscenes: folder with ``v1.0-*/``, ``samples/`` and ``sweeps/``.
        version: None where only one is there.
        allow_missing: what may be missing: ``samples`` leaves out key frames that lack an image or LiDAR file,
            ``lidar`` does without any LiDAR file, ``radar`` and ``sweeps`` without theirs.
        radar_sweeps: sweeps of each radar a sample, the key frame included.
        lidar_sweeps: LiDAR sweeps a sample, the key frame included; one more is listed, so that random choice has
            something to choose from.
        name: of the artifact; the version where None (with :data:`WITHOUT_LIDAR` where there is no LiDAR, so that it
            does not take the place of the complete data).
        allow_outside: read sensor files whose names in the tables lead out of the folder.
        lidar_columns: float32 values a LiDAR point.
        processes: worker processes for the radar files.
        force: make it anew even where it exists; `resume`: continue an unfinished run.
        command: as it was given, for the manifest; None where there was none.
    """

    nuscenes: Path
    version: str | None = None
    allow_missing: frozenset[str] = frozenset()
    radar_sweeps: int = 6
    lidar_sweeps: int = 10
    name: str | None = None
    allow_outside: bool = False
    lidar_columns: int = NUSCENES_COLUMNS
    processes: int = 1
    force: bool = False
    resume: bool = True
    command: Command | None = None

    def check(self) -> None:
        """Refuse options that make no sense.

        Raises:
            UsageError: naming one.
        """
        unknown = sorted(self.allow_missing - set(ALLOWABLE))
        if unknown:
            raise UsageError(f"--allow-missing knows {', '.join(ALLOWABLE)}, found {', '.join(unknown)}.")
        for option, value in (("--radar-sweeps", self.radar_sweeps), ("--lidar-sweeps", self.lidar_sweeps)):
            if not 1 <= value <= MOST_SWEEPS:
                raise UsageError(f"{option} counts the key frame: expected 1 to {MOST_SWEEPS}, found {value}.")
        if self.processes < 1:
            raise UsageError(f"--processes must be at least 1, found {self.processes}.")

    def name_of(self, version: str, without_lidar: bool) -> str:
        """What the prepared data are called."""
        return self.name or version + (WITHOUT_LIDAR if without_lidar else "")

    def command_of(self, version: str) -> Command:
        """The command that prepares the same data again."""
        # What a file or override says of the sweeps is said by options, so that they are free to change.
        command = (self.command or Command(STAGE)).without("--config", "--set")
        if self.lidar_columns != NUSCENES_COLUMNS:
            command = command.setting("--set", f"data.lidar.columns={self.lidar_columns}")
        if self.allow_outside:
            command = command.setting("--allow-outside")
        command = command.setting("--nuscenes", absolute(self.nuscenes)).setting("--version", version)
        if self.name is not None:
            command = command.setting("--name", self.name)
        command = command.setting("--radar-sweeps", self.radar_sweeps).setting("--lidar-sweeps", self.lidar_sweeps)
        if self.allow_missing:
            command = command.setting("--allow-missing", ",".join(sorted(self.allow_missing)))
        return command
