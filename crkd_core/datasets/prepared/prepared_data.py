"""Reading a prepared data set: key frames, calibration, sensor files, radar points and annotations by sample token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crkd_core.artifacts.described import description_of
from crkd_core.artifacts.shards import ItemKey, TensorShards
from crkd_core.artifacts.tables import read_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.data import NUSCENES_COLUMNS, GridConfig
from crkd_core.config.description import DatasetDescription
from crkd_core.datasets.nuscenes.lidar_format import LidarFormat
from crkd_core.datasets.nuscenes.point_counts import may_have_points
from crkd_core.datasets.nuscenes.splits import parts_of_split, resolve_split
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.table_columns import TableColumns
from crkd_core.errors import DatasetError, StaleArtifactError, UsageError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.progress import format_count


@dataclass(frozen=True)
class Scene:
    """The scene a sample belongs to; `night` and `rain` are read from its description."""

    token: str
    name: str
    description: str
    location: str
    night: bool
    rain: bool


@dataclass(frozen=True)
class Cameras:
    """The cameras of one sample, in the order of the description.

    Attributes:
        paths: relative to the data root.
        size_px: (N, 2) width and height of the source images.
        intrinsics: (N, 3, 3); `lidar_from_camera`: (N, 4, 4), through both ego poses; float64.
    """

    channels: tuple[str, ...]
    paths: tuple[str, ...]
    size_px: NDArray[np.int32]
    intrinsics: NDArray[np.float64]
    lidar_from_camera: NDArray[np.float64]


@dataclass(frozen=True)
class LidarSweeps:
    """The LiDAR sweeps of one sample, the key frame first, then newest first; one file each, or one of every LiDAR.

    Attributes:
        paths: of F files, relative to the data root.
        number: (F,) ascending, of the sweep that each belongs to.
        age_s: (F,); `lidar_from_sweep`: (F, 4, 4), identity for the reference LiDAR's key frame.
        layout: what the files hold; `timestamp_us`: (F,), where each point of them has a time stamp, else None.
    """

    paths: tuple[str, ...]
    number: NDArray[np.int64]
    age_s: NDArray[np.float64]
    lidar_from_sweep: NDArray[np.float64]
    layout: LidarFormat = field(default_factory=LidarFormat)
    timestamp_us: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Sweeps."""
        return int(self.number.max(initial=-1)) + 1

    def files_of(self, number: int) -> list[int]:
        """Which files belong to a sweep."""
        return np.flatnonzero(self.number == number).tolist()


@dataclass(frozen=True)
class Annotations:
    """The annotated boxes of detected classes in one sample.

    Attributes:
        tokens, instances: nuScenes tokens.
        boxes: in the key frame's LiDAR frame; NaN velocity where undefined.
        labels: (M,) int64 index into the classes of the description.
        translation, rotation, velocity: (M, 3), (M, 4; w, x, y, z), (M, 3) in the global frame.
        visibility: (M,) 1 to 4, 0 where not given.
        lidar_points, radar_points: (M,) points inside the box, -1 where nobody knows.
        attributes: names, '' where there is none.
    """

    tokens: list[str]
    instances: list[str]
    boxes: Boxes3D
    labels: torch.Tensor
    translation: NDArray[np.float64]
    rotation: NDArray[np.float64]
    velocity: NDArray[np.float64]
    visibility: NDArray[np.int8]
    lidar_points: NDArray[np.int32]
    radar_points: NDArray[np.int32]
    attributes: list[str]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def size_wlh(self) -> NDArray[np.float64]:
        """(M, 3) width, length, height in metres."""
        return self.boxes.size_wlh.numpy().astype(np.float64)

    @property
    def has_points(self) -> torch.Tensor:
        """(M,) whether a LiDAR or radar point lies inside, or may: what training and evaluation require."""
        return torch.from_numpy(may_have_points(self.lidar_points, self.radar_points))


@dataclass(frozen=True)
class ObjectCounts:
    """How many objects of some samples are annotated, how many of them have points (or may), and lie in the grid."""

    annotated: int
    with_points: int
    inside: int


class PreparedData:
    """Random access to the samples of a prepared data set.

    Tables are read when first used, and again in every loader process: what is sent there is only the artifact.

    Args:
        artifact: of the stage ``prepare``.
        dataroot: the nuScenes folder, where it moved since it was prepared.
    """

    def __init__(self, artifact: Artifact, dataroot: Path | None = None) -> None:
        self.artifact = artifact
        self.dataroot = Path(dataroot) if dataroot is not None else Path(artifact.manifest.facts["dataroot"])

    def __getstate__(self) -> dict:
        return {"artifact": self.artifact, "dataroot": self.dataroot}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def version(self) -> str:
        """nuScenes version, for instance ``v1.0-mini``."""
        return self.artifact.manifest.facts["version"]

    @cached_property
    def description(self) -> DatasetDescription:
        """What the data set is; that of nuScenes where nothing else was said when it was prepared."""
        return description_of(self.artifact)

    @property
    def sweeps(self) -> dict[str, int]:
        """Sweeps a sample that were prepared for ``lidar`` and ``radar``, the key frame included."""
        settings = self.artifact.manifest.settings
        return {"lidar": settings["lidar_sweeps"], "radar": settings["radar_sweeps"]}

    @property
    def lidar_columns(self) -> int:
        """Columns of the LiDAR files, see :func:`crkd_core.datasets.nuscenes.lidar.read_lidar`."""
        return self.artifact.manifest.settings.get(preparing.LIDAR_COLUMNS, NUSCENES_COLUMNS)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The sensors there are data of; radar counts where any point was prepared."""
        facts = self.artifact.manifest.facts
        available = {
            "camera": bool(self.description.cameras),
            "lidar": facts.get("lidar", True),
            "radar": facts["radar_points"],
        }
        return tuple(name for name, is_available in available.items() if is_available)

    @property
    def splits(self) -> dict[str, int]:
        """Official split name to number of samples."""
        return dict(self.artifact.manifest.facts.get("samples_per_split", {}))

    def official_split(self, split: str) -> str:
        """The name a split has in these data, see :func:`crkd_core.datasets.nuscenes.splits.resolve_split`.

        Raises:
            UsageError: the version has no such split.
        """
        return resolve_split(split, self.version, self.splits)

    def has_split(self, split: str) -> bool:
        """Whether there is any sample of a split."""
        try:
            return any(part in self.splits for part in self._parts(split))
        except UsageError:
            return False

    def split_size(self, split: str) -> int:
        """Samples of a split in the nuScenes tables, those included that were left out for want of their files."""
        left_out = self.artifact.manifest.facts.get("left_out_per_split", {})
        return sum(self.splits.get(part, 0) + left_out.get(part, 0) for part in self._parts(split))

    def _parts(self, split: str) -> tuple[str, ...]:
        return parts_of_split(self.official_split(split), self.splits)

    @property
    def image_width_px(self) -> int | None:
        """Width of most source images; None where there are none."""
        widths = np.asarray(self._cameras["width"])
        widths = widths[widths > 0]
        return int(np.bincount(widths).argmax()) if len(widths) else None

    def tokens(self, split: str) -> list[str]:
        """Sample tokens of a split in the order of scenes and time; ``val`` means ``mini_val`` in a mini version.

        Raises:
            UsageError: the version has no such split.
            DatasetError: the split is empty.
        """
        parts = set(self._parts(split))
        tokens = [
            token
            for token, splits in zip(
                self._samples["token"].to_pylist(), self._samples["splits"].to_pylist(), strict=True
            )
            if not parts.isdisjoint(splits)
        ]
        if not tokens:
            present = (
                ", ".join(f"{name} ({format_count(count, 'sample')})" for name, count in self.splits.items())
                or "no split"
            )
            raise DatasetError(
                f"{self.artifact.label} has no sample of the split {self.official_split(split)!r} of {self.version}; "
                f"it has {present}. Unpack the scenes of that split and prepare again, or choose another split."
            )
        return tokens

    def left_out_tokens(self, split: str) -> list[str]:
        """Samples of a split that were left out for want of their files.

        Raises:
            DamagedArtifactError: their table cannot be read.
        """
        if preparing.LEFT_OUT not in self.artifact.manifest.files:
            return []
        table, parts = read_table(self.artifact, preparing.LEFT_OUT), set(self._parts(split))
        rows = zip(table["token"].to_pylist(), table["splits"].to_pylist(), strict=True)
        return [token for token, splits in rows if not parts.isdisjoint(splits)]

    def rows(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Rows of samples in ``samples.parquet``, to which the other tables refer.

        Raises:
            DatasetError: a token is unknown.
        """
        return np.array([self._row(token) for token in tokens], dtype=np.int64)

    def ego_positions(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """(S, 3) global position of the car at the LiDAR's time of each key frame."""
        return self._samples["global_from_ego"][self.rows(tokens)][:, 3:12:4]

    def scene_of(self, token: str) -> Scene:
        """The scene a sample belongs to."""
        row = self._row(token)
        text = {
            name: self._samples[name][row].as_py() for name in ("scene_token", "scene_name", "description", "location")
        }
        flags = {name: bool(self._samples[name][row]) for name in ("night", "rain")}
        return Scene(text["scene_token"], text["scene_name"], text["description"], text["location"], **flags)

    def timestamp_us(self, token: str) -> int:
        """Time stamp of a key frame in microseconds."""
        return int(self._samples["timestamp_us"][self._row(token)])

    def neighbours(self, token: str) -> tuple[str, str]:
        """Tokens of the key frames before and after in the scene, '' at its ends."""
        row = self._row(token)
        return self._samples["prev"][row].as_py(), self._samples["next"][row].as_py()

    def global_from_lidar(self, token: str) -> NDArray[np.float64]:
        """4x4 pose of the LiDAR at the key frame."""
        return self._samples["global_from_lidar"][self._row(token)].reshape(4, 4)

    def global_from_ego(self, token: str) -> NDArray[np.float64]:
        """4x4 pose of the car at the LiDAR's time of the key frame."""
        return self._samples["global_from_ego"][self._row(token)].reshape(4, 4)

    def cameras(self, token: str) -> Cameras:
        """Images and calibration of a sample."""
        table, rows = self._cameras, self._cameras.of_sample(self._row(token))
        return Cameras(
            channels=self.description.cameras,
            paths=tuple(table.strings("path", rows)),
            size_px=np.stack([table["width"][rows], table["height"][rows]], axis=1),
            intrinsics=table["intrinsics"][rows].reshape(-1, 3, 3),
            lidar_from_camera=table["lidar_from_camera"][rows].reshape(-1, 4, 4),
        )

    def lidar_sweeps(self, token: str) -> LidarSweeps:
        """LiDAR files of a sample."""
        table, rows = self._lidar, self._lidar.of_sample(self._row(token))
        return LidarSweeps(
            paths=tuple(table.strings("path", rows)),
            number=table["index"][rows].astype(np.int64),
            age_s=table["age_s"][rows],
            lidar_from_sweep=table["lidar_from_sweep"][rows].reshape(-1, 4, 4),
            layout=self._lidar_format,
            timestamp_us=table["timestamp_us"][rows] if self._lidar_format.time_field is not None else None,
        )

    def radar(self, token: str, sweeps: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """All radars' points of the newest `sweeps` sweeps (None: all) in the key frame's LiDAR frame.

        Returns:
            values (P, 7; with elevation 8) and codes (P, 4), see :mod:`crkd_core.datasets.nuscenes.radar`.

        Raises:
            DamagedArtifactError: the shard cannot be read.
        """
        item = self._radar.read(ItemKey(token))
        values, codes, counts = (item[name].numpy() for name in ("values", "codes", "sweep_points"))
        if sweeps is not None and sweeps < counts.shape[1]:
            kept = np.broadcast_to(np.arange(counts.shape[1]) < sweeps, counts.shape)
            chosen = np.repeat(kept.ravel(), counts.ravel())
            values, codes = values[chosen], codes[chosen]
        return values, codes

    def radar_channels(self, token: str) -> NDArray:
        """(P,) channel name of every point that :meth:`radar` gives with all sweeps."""
        counts = self._radar.read(ItemKey(token))["sweep_points"].numpy().sum(axis=1)
        return np.repeat(np.array(self.description.radars), counts)

    def annotations(self, token: str) -> Annotations:
        """Annotated boxes of a sample (none in the test split)."""
        table, rows = self._annotations, self._annotations.of_sample(self._row(token))
        return Annotations(
            tokens=table.strings("token", rows),
            instances=table.strings("instance", rows),
            boxes=Boxes3D(torch.from_numpy(table["box"][rows].astype(np.float32))),
            labels=torch.from_numpy(table["label"][rows].astype(np.int64)),
            translation=table["translation"][rows],
            rotation=table["rotation"][rows],
            velocity=table["velocity"][rows],
            visibility=table["visibility"][rows],
            lidar_points=table["lidar_points"][rows],
            radar_points=table["radar_points"][rows],
            attributes=table.strings("attribute", rows),
        )

    def classes_in(self, token: str, require_points: bool = True) -> NDArray[np.int8]:
        """Classes of the annotated boxes of a sample; `require_points`: not of those known to be without any point."""
        table, rows = self._annotations, self._annotations.of_sample(self._row(token))
        labels = table["label"][rows]
        return (
            labels[may_have_points(table["lidar_points"][rows], table["radar_points"][rows])]
            if require_points
            else labels
        )

    def count_objects(self, tokens: Sequence[str], grid: GridConfig) -> ObjectCounts:
        """What there is to be trained on in the samples `tokens`, before augmentation."""
        table = self._annotations
        chosen = np.isin(table["sample"], self.rows(tokens))
        pointed = chosen & may_have_points(table["lidar_points"], table["radar_points"])
        centre, inside = table["box"][:, :2], pointed.copy()
        for axis, (lower, upper) in enumerate((grid.x_range_m, grid.y_range_m)):
            inside &= (centre[:, axis] > lower) & (centre[:, axis] < upper)
        return ObjectCounts(int(chosen.sum()), int(pointed.sum()), int(inside.sum()))

    def _row(self, token: str) -> int:
        try:
            return self._rows[token]
        except KeyError:
            raise DatasetError(
                f"{self.artifact.label} ({self.version}) has no sample with the token {token!r}."
            ) from None

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {token: row for row, token in enumerate(self._samples["token"].to_pylist())}

    @cached_property
    def _samples(self) -> TableColumns:
        return TableColumns(self.artifact, preparing.SAMPLES)

    @cached_property
    def _cameras(self) -> TableColumns:
        table = TableColumns(self.artifact, preparing.CAMERAS, self._samples.rows)
        if min(table["width"].min(initial=1), table["height"].min(initial=1)) < 1:
            raise StaleArtifactError(
                f"{self.artifact.label} has images without a size (an earlier crkd did not look into them); make it "
                f"again with: {self.artifact.manifest.command} --force"
            )
        return table

    @cached_property
    def _lidar(self) -> TableColumns:
        return TableColumns(self.artifact, preparing.LIDAR_SWEEPS, self._samples.rows)

    @cached_property
    def _lidar_format(self) -> LidarFormat:
        return LidarFormat.of(self.description, self.lidar_columns)

    @cached_property
    def _annotations(self) -> TableColumns:
        return TableColumns(self.artifact, preparing.ANNOTATIONS, self._samples.rows)

    @cached_property
    def _radar(self) -> TensorShards:
        return TensorShards(self.artifact, preparing.RADAR_FOLDER)
