"""Stage ``compare``: paired differences of two evaluations of one split, and what only the first one finds."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.tables import read_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.split_names import VAL
from crkd_core.datasets.prepared.source import pin_machine
from crkd_core.errors import MissingArtifactError, UsageError
from crkd_core.evaluation.comparisons import (
    STAGE,
    choose_comparison_name,
    read_missed,
    require_same_data,
    warn_of_precisions,
    write_comparison,
)
from crkd_core.evaluation.identity import STAGE as EVALUATE_STAGE
from crkd_core.evaluation.identity import Subject, Variant, find_evaluation, handle_of, titles_of
from crkd_core.evaluation.precision import FULL_PRECISION
from crkd_core.evaluation.statistics.bootstrap import DEFAULT_RESAMPLES
from crkd_core.evaluation.statistics.comparison import COMPARISON_NAME
from crkd_core.progress import Progress
from crkd_core.stages.evaluate import EvaluateRequest, evaluate


@dataclass(frozen=True)
class CompareRequest:
    """What to compare.

    Attributes:
        first, second: names of models, which are evaluated if they were not yet, or of evaluations; differences are
            those of the second from the first.
        split: train or val, or an official split name.
        resamples: of the scenes, the same for both.
        score: an object is found by a detection with at least this score.
        nuscenes, device, batch_size, workers: of an evaluation that has yet to be made.
        command: as it was given, for the manifest; None where there was none.
    """

    first: str
    second: str
    split: str = VAL
    resamples: int = DEFAULT_RESAMPLES
    score: float = 0.3
    force: bool = False
    nuscenes: Path | None = None
    device: str = "auto"
    batch_size: int = 4
    workers: int = 2
    command: Command | None = None


@dataclass(frozen=True)
class CompareResult:
    """A finished comparison: see ``comparison_table`` and ``missed_table`` for its tables."""

    artifact: Artifact
    names: tuple[str, str]
    table: pa.Table
    missed: pa.Table


def compare(request: CompareRequest, workspace: Workspace, progress: Progress) -> CompareResult:
    """Compare two evaluations on the same samples.

    Raises:
        UsageError: the two are not of the same data, or an option makes no sense.
        ArtifactError: a model or an evaluation is missing or cannot be used.
    """
    if request.resamples < 0 or not 0 <= request.score <= 1:
        raise UsageError(
            f"no fewer than 0 resamples and a score between 0 and 1 are expected, found {request.resamples} and "
            f"{request.score}."
        )
    first, second = (_evaluation(name, request, workspace, progress) for name in (request.first, request.second))
    require_same_data(first, second)
    warn_of_precisions(first, second, progress)
    first_title, second_title = titles_of((first, second))
    names = first_title, second_title
    with workspace.write(
        ArtifactRequest(
            STAGE,
            choose_comparison_name(workspace, (first, second), names, request.split),
            command=_command(request, (first, second), workspace),
            settings={"resamples": request.resamples, "score": request.score},
            inputs={"first": first.reference(), "second": second.reference()},
            force=request.force,
            replace=True,
        )
    ) as writer:
        writer.warn(progress)
        artifact = writer.finished
        if artifact is None:
            missed = write_comparison(
                writer.path, (first, second), names, workspace, progress, request.resamples, request.score
            )
            facts = {"first": names[0], "second": names[1], "split": request.split, "missed": missed}
            artifact = writer.finish(facts)
    return CompareResult(artifact, names, read_table(artifact, COMPARISON_NAME), read_missed(artifact))


def _evaluation(word: str, request: CompareRequest, workspace: Workspace, progress: Progress) -> Artifact:
    """The finished evaluation that a word means; made where it is not there or stale."""
    evaluation = find_evaluation(workspace, word, request.split, f"crkd {STAGE}")
    # What can be made again from a model is; a stale evaluation of a file is refused by name.
    if evaluation is not None and ("model" not in evaluation.manifest.inputs or not workspace.staleness(evaluation)):
        make = f"crkd {EVALUATE_STAGE}"
        return workspace.find(EVALUATE_STAGE, evaluation.name, needed_for=f"crkd {STAGE}", make=make)
    stage, _, run = word.rpartition("/")
    if evaluation is None and stage == EVALUATE_STAGE:
        known = ", ".join(artifact.name for artifact in workspace.artifacts(EVALUATE_STAGE)) or "none"
        raise MissingArtifactError(
            f"crkd {STAGE}: there is no evaluation {run!r} in {workspace.root}; there is {known}."
        )
    subject = Subject.of(evaluation) if evaluation is not None else None
    evaluation_request = EvaluateRequest(
        model=word if subject is None else f"{subject.stage}/{subject.name}",
        split=request.split,
        nuscenes=request.nuscenes,
        device=request.device,
        batch_size=request.batch_size,
        workers=request.workers,
        precision=FULL_PRECISION if evaluation is None else Variant.of(evaluation).precision,
    )
    result = evaluate(evaluation_request, workspace, progress)
    if result is None:
        raise UsageError(
            f"crkd {STAGE} runs as one process; evaluate {word} first: crkd {EVALUATE_STAGE} --model {word}"
        )
    return result.artifact


def _command(request: CompareRequest, evaluations: tuple[Artifact, Artifact], workspace: Workspace) -> Command:
    words = tuple(handle_of(evaluation, workspace) for evaluation in evaluations)
    command = replace(request.command or Command(STAGE), arguments=words).setting("--split", request.split)
    command = command.setting("--bootstrap", request.resamples).setting("--score", f"{request.score:g}")
    return pin_machine(command, request.nuscenes, request.device)
