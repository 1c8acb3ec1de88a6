"""Which evaluations and which samples are drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import STAGE as PREPARE_STAGE
from crkd_core.datasets.prepared.source import check_dataroot
from crkd_core.errors import ArtifactError, DamagedArtifactError, MissingArtifactError, StaleArtifactError, UsageError
from crkd_core.evaluation.finished import evaluated_tokens
from crkd_core.evaluation.identity import STAGE as EVALUATE_STAGE
from crkd_core.evaluation.identity import Subject, evaluations_of, find_evaluation, titles_of
from crkd_core.progress import Progress

STAGE = "visualize"
MAX_MODELS = 4
_USUAL_ORDER = ("teacher", "plain", "control", "crkd")


def choose_evaluations(workspace: Workspace, models: Sequence[str], split: str, progress: Progress) -> list[Artifact]:
    """The evaluations to draw, in the order of their panels.

    Args:
        models: by which they are named; none for the latest of every model on the split.

    Raises:
        UsageError: more are named than a picture has room for.
        ArtifactError: a named one, or every one, is missing, stale or damaged.
    """
    if models:
        if len(models) > MAX_MODELS:
            raise UsageError(f"a picture has room for {MAX_MODELS} models, found {len(models)}.")
        named = [_named(word, split, workspace) for word in models]
        return list({evaluation.path: evaluation for evaluation in named}.values())
    usable = _of_same_data(_latest_usable(workspace, split, progress), progress)
    if len(usable) > MAX_MODELS:
        left_out = ", ".join(titles_of(usable)[MAX_MODELS:])
        progress.warning(f"a picture has room for {MAX_MODELS} models, so {left_out} is left out; choose with --model.")
    return usable[:MAX_MODELS]


def open_data(workspace: Workspace, evaluations: Sequence[Artifact], nuscenes: Path | None) -> PreparedData:
    """The prepared data that evaluations share, with the sensor files to draw.

    Args:
        nuscenes: where the data set is now, if it moved since it was prepared.

    Raises:
        UsageError: an evaluation was scored from tables alone.
        ArtifactError: the evaluations are of different data, or these cannot be used.
        DatasetError: the folder of the sensor files is not there.
    """
    references = [artifact.manifest.inputs["prepared"] for artifact in evaluations]
    for artifact, reference in zip(evaluations, references, strict=True):
        if _is_of_tables(artifact):
            raise UsageError(
                f"{artifact.label} was scored from the tables alone, and pictures need images; prepare the data set "
                f"(crkd prepare --nuscenes DIR) and run again: {artifact.manifest.command}"
            )
        if reference.name != references[0].name:
            raise ArtifactError(
                f"{evaluations[0].label} and {artifact.label} are of different data ({references[0].name} and "
                f"{reference.name}) and cannot share a picture; choose with --model."
            )
    make = "crkd prepare --nuscenes DIR"
    artifact = workspace.find(PREPARE_STAGE, references[0].name, needed_for=f"crkd {STAGE}", make=make)
    prepared = PreparedData(artifact, nuscenes)
    check_dataroot(prepared)
    return prepared


def common_tokens(prepared: PreparedData, evaluations: Sequence[Artifact], split: str) -> list[str]:
    """Samples of the split that all evaluations are on.

    Raises:
        UsageError: there is none.
    """
    evaluated = [set(evaluated_tokens(artifact, prepared)) for artifact in evaluations]
    tokens = [token for token in prepared.tokens(split) if all(token in tokens for tokens in evaluated)]
    if not tokens:
        raise UsageError(f"{evaluations[0].label} and the others have no sample in common; choose with --model.")
    return tokens


def check_tokens(tokens: Sequence[str], common: Sequence[str], prepared: PreparedData, split: str) -> list[str]:
    """Named samples, each once.

    Args:
        common: those that can be drawn.

    Raises:
        UsageError: one of them cannot.
    """
    strangers = sorted(set(tokens) - set(common))
    if strangers:
        official = prepared.official_split(split)
        raise UsageError(f"{strangers[0]!r} is no sample of {official} in {prepared.artifact.label}; check --token.")
    return list(dict.fromkeys(tokens))


def draw_tokens(common: Sequence[str], samples: int, seed: int) -> list[str]:
    """So many samples at random, in their order; all where there are fewer."""
    count = min(samples, len(common))
    chosen = np.random.default_rng(seed).choice(len(common), size=count, replace=False)
    return [common[index] for index in sorted(chosen.tolist())]


def _latest_usable(workspace: Workspace, split: str, progress: Progress) -> list[Artifact]:
    """The latest evaluation of every model, in the usual order; what cannot be drawn is left out with a warning."""
    latest = {Subject.of(evaluation): evaluation for evaluation in evaluations_of(workspace, split)}
    rank = {name: number for number, name in enumerate(_USUAL_ORDER)}
    usable: list[Artifact] = []
    problem: ArtifactError | None = None
    for damaged in workspace.damaged(EVALUATE_STAGE):
        progress.warning(f"left out: {damaged}")
        problem = problem or damaged
    for subject in sorted(latest, key=lambda subject: (rank.get(subject.name, len(rank)), *subject.titles)):
        if _is_of_tables(latest[subject]):
            label = latest[subject].label
            progress.warning(f"left out: {label} was scored from tables alone, without images to draw")
            continue
        try:
            usable.append(_usable(latest[subject], workspace))
        except (StaleArtifactError, DamagedArtifactError) as error:
            progress.warning(f"left out: {error}")
            problem = problem or error
    if not usable:
        raise problem or _missing("MODEL", split, workspace)
    return usable


def _is_of_tables(evaluation: Artifact) -> bool:
    return evaluation.manifest.inputs["prepared"].stage != PREPARE_STAGE


def _of_same_data(evaluations: list[Artifact], progress: Progress) -> list[Artifact]:
    """Those of the prepared data that the latest is of."""
    latest = max(evaluations, key=lambda evaluation: evaluation.manifest.created)
    data = {evaluation.name: evaluation.manifest.inputs["prepared"].name for evaluation in evaluations}
    same = [evaluation for evaluation in evaluations if data[evaluation.name] == data[latest.name]]
    others = [evaluation.label for evaluation in evaluations if evaluation not in same]
    if others:
        progress.warning(f"left out: {', '.join(others)}, of other prepared data than {latest.label}")
    return same


def _named(word: str, split: str, workspace: Workspace) -> Artifact:
    evaluation = find_evaluation(workspace, word, split, f"crkd {STAGE}")
    if evaluation is None:
        raise _missing(word, split, workspace)
    return _usable(evaluation, workspace)


def _usable(evaluation: Artifact, workspace: Workspace) -> Artifact:
    make = f"crkd {EVALUATE_STAGE}"
    return workspace.find(EVALUATE_STAGE, evaluation.name, needed_for=f"crkd {STAGE}", make=make)


def _missing(word: str, split: str, workspace: Workspace) -> MissingArtifactError:
    whose = "" if word == "MODEL" else f" of {word}"
    known = ", ".join(titles_of(evaluations_of(workspace, split)))
    make = workspace.command(f"crkd {EVALUATE_STAGE}", model=None if word == "MODEL" else word, split=split)
    return MissingArtifactError(
        f"crkd {STAGE} needs detections{whose} on {split}, and {workspace.root} has none"
        f"{f' (there are those of {known})' if known else ''}; make them with: {make}"
    )
