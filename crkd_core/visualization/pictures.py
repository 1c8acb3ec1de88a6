"""The pictures of a run of ``visualize``: one file per sample, continued where a stopped run ended."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.evaluation.comparisons import MissedObjects
from crkd_core.evaluation.evaluated_split import is_annotated
from crkd_core.progress import Progress, format_count
from crkd_core.visualization.choice import STAGE
from crkd_core.visualization.figure import write_picture
from crkd_core.visualization.report.contents import ReportPicture
from crkd_core.visualization.true_positives import Outcome
from crkd_core.visualization.view_reading import ShownModel, read_gt, read_sample_view, shown_extent_m

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


def describe_pictures(
    tokens: Sequence[str], models: Sequence[ShownModel], prepared: PreparedData, score: float
) -> list[ReportPicture]:
    """What the report says of each picture."""
    described = []
    extent_m = shown_extent_m(models)
    for index, token in enumerate(tokens):
        scene = prepared.scene_of(token)
        condition = ", ".join(text for text in (scene.description, scene.location) if text)
        gt = read_gt(token, prepared, extent_m) if is_annotated(prepared, models[0].split) else None
        outcomes = [] if gt is None else [f"ground truth: {format_count(len(gt), 'object')}"]
        outcomes += [f"{model.name}: {Outcome.of(model.above(token, score), gt).summary}" for model in models]
        described.append(ReportPicture(picture_name(index, token), token, scene.name, condition, tuple(outcomes)))
    return described
