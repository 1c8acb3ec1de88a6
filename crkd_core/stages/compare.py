"""Stage ``compare``: two evaluations of one split, with paired differences and what only the first one finds."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from crkd_core.artifacts.tables import read_table, write_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.errors import MissingArtifactError, UsageError
from crkd_core.evaluation.bootstrap import DEFAULT_RESAMPLES
from crkd_core.evaluation.comparison import COMPARISON_NAME, MISSED_NAME, comparison_table, missed_table
from crkd_core.evaluation.scoring import Scoring
from crkd_core.evaluation.slices import read_object_facts
from crkd_core.progress import Progress
from crkd_core.stages.breakdown import break_down, find_parts
from crkd_core.stages.evaluate import STAGE as EVALUATE_STAGE
from crkd_core.stages.evaluate import EvaluateRequest, evaluate
from crkd_core.stages.evaluated import TOKENS_NAME, load_evaluated
from crkd_core.stages.inputs import split_slug

STAGE = "compare"
_LONGEST_NAME = 40


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
    """

    first: str
    second: str
    split: str = "val"
    resamples: int = DEFAULT_RESAMPLES
    score: float = 0.3
    force: bool = False
    nuscenes: Path | None = None
    device: str = "auto"
    batch_size: int = 4
    workers: int = 2


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
    _require_same_data(first, second)
    names = first.manifest.facts["model"], second.manifest.facts["model"]
    label = "-".join([*(name[:_LONGEST_NAME] for name in names), split_slug(request.split)])
    command = f"crkd {STAGE} {request.first} {request.second} --split {shlex.quote(request.split)}"
    with workspace.write(
        STAGE,
        label,
        command=command,
        settings={"resamples": request.resamples, "score": request.score},
        inputs={"first": first.reference(), "second": second.reference()},
        force=request.force,
        replace=True,
    ) as writer:
        writer.warn(progress)
        artifact = writer.finished
        if artifact is None:
            missed = _write_tables(writer.path, (first, second), names, request, workspace, progress)
            facts = {"first": names[0], "second": names[1], "split": request.split, "missed": missed}
            artifact = writer.finish(facts)
    return CompareResult(artifact, names, read_table(artifact, COMPARISON_NAME), read_missed(artifact))


def find_comparison(workspace: Workspace, name: str, needed_for: str) -> Artifact:
    """A finished comparison that is not stale.

    Raises:
        ArtifactError: there is none of that name, or it cannot be used.
    """
    make = f"crkd {STAGE} MODEL MODEL (comparisons are named MODEL-MODEL-SPLIT)"
    return workspace.find(STAGE, name.removeprefix(f"{STAGE}/"), needed_for=needed_for, make=make)


def read_missed(comparison: Artifact) -> pa.Table:
    """The objects that only the first of a comparison finds (see ``missed_table``).

    Raises:
        DamagedArtifactError: the table cannot be read.
    """
    return read_table(comparison, MISSED_NAME)


def _write_tables(
    folder: Path,
    evaluations: tuple[Artifact, Artifact],
    names: tuple[str, str],
    request: CompareRequest,
    workspace: Workspace,
    progress: Progress,
) -> int:
    """Write both tables; returns the number of objects that only the first finds."""
    scores, scorings = [], list[Scoring]()
    for evaluation, name in zip(evaluations, names, strict=True):
        scoring, prepared = load_evaluated(evaluation, workspace)
        parts = find_parts(scoring, prepared)
        scores.append(break_down(scoring, parts, request.resamples, progress, f"{STAGE} {name}"))
        scorings.append(scoring)
    write_table(folder / COMPARISON_NAME, comparison_table(scores[0], scores[1]))
    facts = read_object_facts(prepared, scorings[0].truths)
    missed = missed_table(scorings[0], scorings[1], facts, parts.scenes, request.score)
    write_table(folder / MISSED_NAME, missed)
    return missed.num_rows


def _evaluation(name: str, request: CompareRequest, workspace: Workspace, progress: Progress) -> Artifact:
    """The finished evaluation that `name` means; made where it is not there or stale."""
    stage, _, run = name.rpartition("/")
    there = workspace.names(EVALUATE_STAGE)
    for label in (f"{run}-{split_slug(request.split)}", run):
        found = workspace.get(EVALUATE_STAGE, label) if label in there else None
        if found is None:
            continue
        model = found.manifest.inputs.get("model")
        is_meant = stage in ("", EVALUATE_STAGE, model.stage if model else "")
        # What can be made again from a model is; a stale evaluation of a file is refused by name.
        if is_meant and (model is None or workspace.staleness(found) is None):
            make = found.manifest.command
            return workspace.find(EVALUATE_STAGE, label, needed_for=f"crkd {STAGE}", make=make)
    if stage == EVALUATE_STAGE:
        known = ", ".join(there) or "none"
        raise MissingArtifactError(
            f"crkd {STAGE}: there is no evaluation {run!r} in {workspace.root}; there is {known}."
        )
    asked = EvaluateRequest(
        model=name,
        split=request.split,
        nuscenes=request.nuscenes,
        device=request.device,
        batch_size=request.batch_size,
        workers=request.workers,
    )
    return evaluate(asked, workspace, progress).artifact


def _require_same_data(first: Artifact, second: Artifact) -> None:
    prepared = [artifact.manifest.inputs["prepared"] for artifact in (first, second)]
    splits = [artifact.manifest.facts["split"] for artifact in (first, second)]
    samples = [artifact.manifest.files.get(TOKENS_NAME) for artifact in (first, second)]
    if first.name == second.name:
        raise UsageError(f"{first.label} cannot be compared with itself; name two models or evaluations.")
    if prepared[0].digest != prepared[1].digest or splits[0] != splits[1]:
        raise UsageError(
            f"{first.label} is of {splits[0]} of {prepared[0].name} and {second.label} of {splits[1]} of "
            f"{prepared[1].name}; only evaluations of the same samples can be compared."
        )
    if samples[0] != samples[1]:
        raise UsageError(
            f"{first.label} is of {first.manifest.facts['samples']} samples of {splits[0]} and {second.label} of "
            f"{second.manifest.facts['samples']}, not the same ones; only evaluations of the same samples can be "
            "compared."
        )
