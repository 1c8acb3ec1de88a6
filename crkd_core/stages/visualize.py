"""Stage ``visualize``: pictures of samples with what one or several models detected in them."""

from dataclasses import dataclass, replace
from pathlib import Path

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.split_names import VAL
from crkd_core.datasets.prepared.source import pin_machine, split_slug
from crkd_core.errors import UsageError
from crkd_core.evaluation.comparisons import STAGE as COMPARE_STAGE
from crkd_core.evaluation.comparisons import comparisons_of, find_missed
from crkd_core.evaluation.identity import handle_of, titles_of
from crkd_core.evaluation.io.detections import read_detections
from crkd_core.progress import Progress
from crkd_core.training.recorded_curves import trainings_of
from crkd_core.visualization import choice
from crkd_core.visualization.choice import STAGE
from crkd_core.visualization.pictures import describe_pictures, draw_pictures, picture_name
from crkd_core.visualization.report.page import write_report
from crkd_core.visualization.report.reading import read_report
from crkd_core.visualization.view_reading import ShownModel

INDEX_NAME = "index.html"


@dataclass(frozen=True)
class VisualizeRequest:
    """What to draw.

    Attributes:
        split: train, val or test, or an official split name.
        samples: number of samples, drawn at random by `seed`; all of the split where there are fewer.
        tokens: draw exactly these samples instead.
        models: evaluated models, one panel each, at most 4; () for all that are evaluated on the split.
        nuscenes: where the data set is now, if it moved since it was prepared.
        score: detections below it are not shown.
        missed: a comparison: draw its models, on the samples of its split with the most objects that only its first
            model finds, and mark these.
        command: as it was given, for the manifest; None where there was none.
    """

    split: str = VAL
    samples: int = 4
    tokens: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    seed: int = 0
    nuscenes: Path | None = None
    score: float = 0.3
    force: bool = False
    missed: str | None = None
    command: Command | None = None


@dataclass(frozen=True)
class VisualizeResult:
    """Finished pictures: `paths` of the PNG files in the order of `tokens`, and the `index` page that shows them."""

    artifact: Artifact
    tokens: tuple[str, ...]
    paths: tuple[Path, ...]
    index: Path


def visualize(request: VisualizeRequest, workspace: Workspace, progress: Progress) -> VisualizeResult:
    """Draw cameras and bird's-eye views of some samples, with ground truth and one panel for each model.

    A killed call continues with the first missing picture.

    Raises:
        MissingArtifactError: a model, or any model, has no detections on the split.
        UsageError: a sample is not in the split, or an option makes no sense.
        DatasetError: a sensor file is missing or damaged.
    """
    if request.samples < 1 or not 0 <= request.score <= 1:
        raise UsageError(
            f"at least 1 sample and a score between 0 and 1 are expected, found {request.samples} and {request.score}."
        )
    missed = find_missed(workspace, request.missed, f"crkd {STAGE} --missed") if request.missed else None
    if missed is not None:
        request = replace(request, split=missed.split, models=request.models or missed.evaluations)
    evaluations = choice.choose_evaluations(workspace, request.models, request.split, progress)
    prepared = choice.open_data(workspace, evaluations, request.nuscenes)
    tokens = choice.common_tokens(prepared, evaluations, request.split)
    if request.tokens:
        tokens = choice.check_tokens(request.tokens, tokens, prepared, request.split)
    elif missed is not None:
        tokens = list(missed.annotations)[: request.samples]
    else:
        tokens = choice.draw_tokens(tokens, request.samples, request.seed)
    inputs = {f"evaluation-{artifact.name}": artifact.reference() for artifact in evaluations}
    if missed is not None:
        inputs["comparison"] = missed.comparison.reference()
    comparisons = comparisons_of(workspace, evaluations)
    inputs |= {f"comparison-{comparison.name}": comparison.reference() for comparison in comparisons}
    output = ArtifactRequest(
        STAGE,
        split_slug(request.split),
        command=_command(request, evaluations, workspace),
        settings={"tokens": tokens, "score": request.score, "models": [artifact.name for artifact in evaluations]},
        inputs={"prepared": prepared.artifact.reference(), **inputs},
        force=request.force,
        replace=True,
    )
    titles = titles_of(evaluations)
    with workspace.write(output) as writer:
        writer.warn(progress)
        if writer.finished is None:
            models = [
                ShownModel(artifact, title, read_detections(artifact))
                for artifact, title in zip(evaluations, titles, strict=True)
            ]
            draw_pictures(writer.path, tokens, models, prepared, request.score, missed, progress)
            trainings = trainings_of(evaluations, workspace, progress)
            drawn = describe_pictures(tokens, models, prepared, request.score)
            report = read_report(models, trainings, comparisons, prepared, drawn, progress)
            write_report(writer.path / INDEX_NAME, report, _compare_command(request, evaluations, workspace))
        artifact = writer.finished or writer.finish({"samples": len(tokens), "models": titles})
    paths = tuple(artifact.file(picture_name(index, token)) for index, token in enumerate(tokens))
    return VisualizeResult(artifact, tuple(tokens), paths, artifact.file(INDEX_NAME))


def _command(request: VisualizeRequest, evaluations: list[Artifact], workspace: Workspace) -> Command:
    command = (request.command or Command(STAGE)).setting("--split", request.split)
    if request.missed:
        command = command.setting("--missed", request.missed).setting("--samples", request.samples)
    elif request.tokens:
        command = command.setting("--token", *request.tokens)
    else:
        command = command.setting("--samples", request.samples).setting("--seed", request.seed)
    command = command.setting("--model", *(handle_of(evaluation, workspace) for evaluation in evaluations))
    return pin_machine(command.setting("--score", f"{request.score:g}"), request.nuscenes, "auto")


def _compare_command(request: VisualizeRequest, evaluations: list[Artifact], workspace: Workspace) -> str:
    """That compares the last two, for a report without a comparison."""
    pair = " ".join(handle_of(evaluation, workspace) for evaluation in evaluations[-2:])
    return workspace.command(f"crkd {COMPARE_STAGE} {pair}", split=request.split)
