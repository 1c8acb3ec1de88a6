"""The pictures of a run of ``visualize``: one file per sample, continued where a stopped run ended."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.evaluation.comparisons import MissedObjects
from crkd_core.progress import Progress
from crkd_core.visualization.choice import STAGE
from crkd_core.visualization.figure import write_picture
from crkd_core.visualization.page import PictureEntry
from crkd_core.visualization.view_reading import ShownModel, read_sample_view

_LONGEST_TOKEN = 100


def picture_name(index: int, token: str) -> str:
    """File name of the picture of a sample; `index` is its number in the run."""
    # Ordinary tokens stay as they are; others may have slashes, or be longer than a file name.
    return f"{index:03d}-{re.sub(r'[^A-Za-z0-9._-]', '-', token)[:_LONGEST_TOKEN]}.png"


def draw_pictures(
    folder: Path,
    tokens: Sequence[str],
    models: Sequence[ShownModel],
    prepared: PreparedData,
    score: float,
    missed: MissedObjects | None,
    progress: Progress,
) -> None:
    """Draw every sample that has no picture yet.

    Args:
        score: detections below it are not shown.
        missed: objects to mark.

    Raises:
        DatasetError: a sensor file is missing or damaged.
        WriteError: a file cannot be written.
    """
    names = [picture_name(index, token) for index, token in enumerate(tokens)]
    done = [(folder / name).exists() for name in names]
    with progress.task(STAGE, total=len(tokens), unit="pictures", done=sum(done)) as task:
        for token, name, is_done in zip(tokens, names, done, strict=True):
            if not is_done:
                sample = read_sample_view(token, models, prepared, score)
                if missed is not None:
                    marked = missed.positions(token, prepared)
                    sample = replace(sample, marked=marked, marked_title=missed.title)
                write_picture(folder / name, sample)
                task.advance()


def picture_entries(tokens: Sequence[str], prepared: PreparedData) -> list[PictureEntry]:
    """What the page says of each picture."""
    entries = []
    for index, token in enumerate(tokens):
        scene = prepared.scene_of(token)
        entries.append(PictureEntry(picture_name(index, token), token, scene.name, scene.description))
    return entries
