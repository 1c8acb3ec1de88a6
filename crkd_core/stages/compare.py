"""Stage ``compare``: two evaluations of one split, with paired differences and what only the first one finds."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.tables import read_table, write_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.datasets.prepared.source import pin_machine, split_slug
from crkd_core.errors import MissingArtifactError, UsageError
from crkd_core.evaluation.finished import TOKENS_NAME, load_evaluated
from crkd_core.evaluation.identity import STAGE as EVALUATE_STAGE
from crkd_core.evaluation.identity import Subject, find_evaluation, handle_of, titles_of
from crkd_core.evaluation.nuscenes.scoring import Scoring
from crkd_core.evaluation.report import break_down, find_parts
from crkd_core.evaluation.statistics.bootstrap import DEFAULT_RESAMPLES
from crkd_core.evaluation.statistics.comparison import COMPARISON_NAME, MISSED_NAME, comparison_table, missed_table
from crkd_core.evaluation.statistics.slices import read_object_facts
from crkd_core.progress import Progress
from crkd_core.stages.evaluate import EvaluateRequest, evaluate

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
        command: as it was given, for the manifest; None where there was none.
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
    _require_same_data(first, second)
    title, other = titles_of((first, second))
    names = title, other
    with workspace.write(
        ArtifactRequest(
            STAGE,
            _choose_name(workspace, (first, second), names, request.split),
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
            missed = _write_tables(writer.path, (first, second), names, request, workspace, progress)
            facts = {"first": names[0], "second": names[1], "split": request.split, "missed": missed}
            artifact = writer.finish(facts)
    return CompareResult(artifact, names, read_table(artifact, COMPARISON_NAME), read_missed(artifact))


def find_comparison(workspace: Workspace, name: str, needed_for: str) -> Artifact:
    """A finished comparison that is not stale.

    Raises:
        ArtifactError: there is none of that name, or it cannot be used.
    """
    name = name.removeprefix(f"{STAGE}/")
    if workspace.finished(STAGE, name) is None:
        there = ", ".join(artifact.name for artifact in workspace.artifacts(STAGE)) or "none"
        raise MissingArtifactError(
            f"{needed_for} needs a comparison, and {name!r} is none of those in {workspace.root} ({there}); make "
            f"one with: {workspace.command(f'crkd {STAGE} MODEL MODEL')}"
        )
    return workspace.find(STAGE, name, needed_for=needed_for, make=f"crkd {STAGE} MODEL MODEL")


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
    facts = read_object_facts(prepared, scorings[0].gt)
    missed = missed_table(scorings[0], scorings[1], facts, parts.scenes, request.score)
    write_table(folder / MISSED_NAME, missed)
    return missed.num_rows


def _evaluation(word: str, request: CompareRequest, workspace: Workspace, progress: Progress) -> Artifact:
    """The finished evaluation that a word means; made where it is not there or stale."""
    found = find_evaluation(workspace, word, request.split, f"crkd {STAGE}")
    # What can be made again from a model is; a stale evaluation of a file is refused by name.
    if found is not None and ("model" not in found.manifest.inputs or workspace.staleness(found) is None):
        make = f"crkd {EVALUATE_STAGE}"
        return workspace.find(EVALUATE_STAGE, found.name, needed_for=f"crkd {STAGE}", make=make)
    stage, _, run = word.rpartition("/")
    if found is None and stage == EVALUATE_STAGE:
        known = ", ".join(artifact.name for artifact in workspace.artifacts(EVALUATE_STAGE)) or "none"
        raise MissingArtifactError(
            f"crkd {STAGE}: there is no evaluation {run!r} in {workspace.root}; there is {known}."
        )
    subject = Subject.of(found) if found is not None else None
    asked = EvaluateRequest(
        model=word if subject is None else f"{subject.stage}/{subject.name}",
        split=request.split,
        nuscenes=request.nuscenes,
        device=request.device,
        batch_size=request.batch_size,
        workers=request.workers,
    )
    return evaluate(asked, workspace, progress).artifact


def _choose_name(
    workspace: Workspace, evaluations: tuple[Artifact, Artifact], titles: tuple[str, str], split: str
) -> str:
    """That of the earlier comparison of the same two, else one that no other has."""
    base = "-".join([*(title.replace("/", "-").lstrip("._-")[:_LONGEST_NAME] for title in titles), split_slug(split)])
    same = [evaluation.name for evaluation in evaluations]
    name, count = base, 1
    while (there := workspace.finished(STAGE, name)) is not None:
        if [there.manifest.inputs[role].name for role in ("first", "second")] == same:
            break
        count += 1
        name = f"{base}-{count}"
    return name


def _command(request: CompareRequest, evaluations: tuple[Artifact, Artifact], workspace: Workspace) -> Command:
    words = tuple(handle_of(evaluation, workspace) for evaluation in evaluations)
    command = replace(request.command or Command(STAGE), arguments=words).setting("--split", request.split)
    command = command.setting("--bootstrap", request.resamples).setting("--score", f"{request.score:g}")
    return pin_machine(command, request.nuscenes, request.device)


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
