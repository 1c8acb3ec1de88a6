"""The tables of logs, scenes and samples (key frames)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.records import TableReader
from crkd_core.datasets.nuscenes.table_records import LogRecord, SampleRecord, SceneTableRecord
from crkd_core.errors import DatasetError


@dataclass(frozen=True)
class SceneRecord:
    """One scene of 20 seconds; description and location are '' where the tables have none."""

    token: str
    name: str
    description: str
    location: str


@dataclass(frozen=True)
class SampleColumns:
    """Key frames, in the table's order: token, scene row, time stamp and the neighbours' tokens ('' at the ends)."""

    tokens: list[str]
    scene: NDArray[np.int32]
    timestamp_us: NDArray[np.int64]
    previous: list[str]
    following: list[str]


def read_scenes(folder: Path) -> tuple[list[SceneRecord], dict[str, int]]:
    """All scenes, and the row of each by token."""
    logs = TableReader(folder, "log", LogRecord)
    locations = logs.index(lambda record: logs.text(record, "location", ""))
    table = TableReader(folder, "scene", SceneTableRecord)
    scenes = [
        SceneRecord(
            table.token(record),
            table.text(record, "name"),
            table.text(record, "description", ""),
            table.find(locations, record, "log_token", "log") if record.log_token not in (None, UNSET, "") else "",
        )
        for record in table
    ]
    rows = table.rows([scene.token for scene in scenes])
    name, count = next(iter(Counter(scene.name for scene in scenes).most_common(1)), ("", 0))
    if count > 1:
        raise DatasetError(
            f"the table {table.path} has {count} scenes of the name {name!r}; splits go by name, so every scene needs "
            "its own: mend what made the table."
        )
    return scenes, rows


def read_samples(folder: Path, scene_rows: Mapping[str, int]) -> tuple[SampleColumns, dict[str, int]]:
    """All key frames, and the row of each by token."""
    table = TableReader(folder, "sample", SampleRecord)
    tokens, previous, following, scene, timestamp = [], [], [], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for batch in table.batches():
        tokens += table.own_tokens(batch)
        previous += table.links(batch, "prev")
        following += table.links(batch, "next")
        scene.append(table.find_rows(scene_rows, batch, "scene_token", "scene"))
        timestamp.append(table.timestamps_us(batch))
    scenes = np.concatenate(scene).astype(np.int32)
    samples = SampleColumns(tokens, scenes, np.concatenate(timestamp), previous, following)
    return samples, table.rows(tokens)


def check_sample_links(folder: Path, samples: SampleColumns, rows: Mapping[str, int]) -> None:
    """Refuse key frames linked in a loop or across scenes; a neighbour that was cut out of the tables is none.

    Raises:
        DatasetError: naming the first such sample.
    """
    table = folder / "sample.json"
    for links, sign, word in ((samples.previous, -1, "before"), (samples.following, 1, "after")):
        for row, token in enumerate(links):
            linked = rows.get(token)
            if linked is None:
                continue
            apart_us = int(samples.timestamp_us[linked]) - int(samples.timestamp_us[row])
            if samples.scene[linked] != samples.scene[row] or apart_us * sign <= 0:
                raise DatasetError(
                    f"the table {table} is damaged: the sample {samples.tokens[row]!r} names {token!r} "
                    f"as the one {word} it, which is of another scene or not {word} it in time; mend what made it."
                )
