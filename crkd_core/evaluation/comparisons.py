"""Finished comparisons of two evaluations: finding them, and what only the first of the two finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crkd_core.artifacts.tables import read_table, write_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import split_slug
from crkd_core.errors import MissingArtifactError, UsageError
from crkd_core.evaluation.finished import TOKENS_NAME, open_samples, score_again
from crkd_core.evaluation.report import break_down
from crkd_core.evaluation.statistics.comparison import COMPARISON_NAME, MISSED_NAME, comparison_table, missed_table
from crkd_core.progress import Progress

STAGE = "compare"
_LONGEST_NAME = 40


def find_comparison(workspace: Workspace, name: str, needed_for: str) -> Artifact:
    """A finished comparison that is not stale.

    Raises:
        ArtifactError: there is none of that name, or it cannot be used.
    """
    name = name.removeprefix(f"{STAGE}/")
    if workspace.finished(STAGE, name) is None:
        known = ", ".join(artifact.name for artifact in workspace.artifacts(STAGE)) or "none"
        raise MissingArtifactError(
            f"{needed_for} needs a comparison, and {name!r} is none of those in {workspace.root} ({known}); make "
            f"one with: {workspace.command(f'crkd {STAGE} MODEL MODEL')}"
        )
    return workspace.find(STAGE, name, needed_for=needed_for, make=f"crkd {STAGE} MODEL MODEL")


def comparisons_of(workspace: Workspace, evaluations: Sequence[Artifact]) -> list[Artifact]:
    """The finished comparisons of two of these evaluations as they are now, the oldest first."""
    current = [evaluation.reference() for evaluation in evaluations]
    return [
        comparison
        for comparison in workspace.artifacts(STAGE)
        if all(comparison.manifest.inputs.get(role) in current for role in ("first", "second"))
    ]


def read_missed(comparison: Artifact) -> pa.Table:
    """The objects that only the first of a comparison finds (see ``missed_table``).

    Raises:
        DamagedArtifactError: the table cannot be read.
    """
    return read_table(comparison, MISSED_NAME)


def write_comparison(
    folder: Path,
    evaluations: tuple[Artifact, Artifact],
    names: tuple[str, str],
    workspace: Workspace,
    progress: Progress,
    resamples: int,
    score: float,
) -> int:
    """Write both tables of a comparison; returns the number of objects that only the first finds.

    Args:
        names: what the progress report calls the two.
        resamples: of the scenes, the same for both.
        score: an object is found by a detection with at least this score.
    """
    samples = open_samples(evaluations[0], workspace)
    scored = [score_again(evaluation, samples) for evaluation in evaluations]
    resampled = [
        break_down(side, resamples, progress, f"{STAGE} {name}") for side, name in zip(scored, names, strict=True)
    ]
    write_table(folder / COMPARISON_NAME, comparison_table(*resampled))
    missed = missed_table(scored[0].scoring, scored[1].scoring, samples.scenes, score)
    write_table(folder / MISSED_NAME, missed)
    return missed.num_rows


def warn_of_precisions(first: Artifact, second: Artifact, progress: Progress) -> None:
    """Say it where two models were evaluated in different precisions."""
    precisions = [evaluation.manifest.settings.get("precision") for evaluation in (first, second)]
    if None not in precisions and precisions[0] != precisions[1]:
        progress.warning(
            f"{first.label} was computed in {precisions[0]} and {second.label} in {precisions[1]}: some of the "
            "difference may be rounding"
        )


def choose_comparison_name(
    workspace: Workspace, evaluations: tuple[Artifact, Artifact], titles: tuple[str, str], split: str
) -> str:
    """That of the earlier comparison of the same two, else one that no other has."""
    base = "-".join([*(title.replace("/", "-").lstrip("._-")[:_LONGEST_NAME] for title in titles), split_slug(split)])
    same = [evaluation.name for evaluation in evaluations]
    name, count = base, 1
    while (earlier := workspace.finished(STAGE, name)) is not None:
        if [earlier.manifest.inputs[role].name for role in ("first", "second")] == same:
            break
        count += 1
        name = f"{base}-{count}"
    return name


def require_same_data(first: Artifact, second: Artifact) -> None:
    """Refuse to compare evaluations that are not of the same samples.

    Raises:
        UsageError: saying what each is of.
    """
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


@dataclass(frozen=True)
class MissedObjects:
    """The missed objects of a comparison.

    Attributes:
        annotations: annotation tokens by sample token, the sample with the most of them first.
    """

    comparison: Artifact
    annotations: dict[str, frozenset[str]]

    @property
    def split(self) -> str:
        """As the comparison was asked for."""
        return self.comparison.manifest.facts["split"]

    @property
    def models(self) -> tuple[str, str]:
        """Who finds them, and who misses them, as the comparison calls them."""
        facts = self.comparison.manifest.facts
        return facts["first"], facts["second"]

    @property
    def evaluations(self) -> tuple[str, str]:
        """Their evaluations, as ``visualize`` takes them."""
        inputs = self.comparison.manifest.inputs
        first, second = (f"{inputs[role].stage}/{inputs[role].name}" for role in ("first", "second"))
        return first, second

    @property
    def title(self) -> str:
        """For a legend."""
        return "found by {}, missed by {}".format(*self.models)

    def positions(self, token: str, prepared: PreparedData) -> NDArray[np.float32]:
        """(M, 2) x, y of the missed objects of a sample in its model frame (m)."""
        missed, annotations = self.annotations.get(token, frozenset()), prepared.annotations(token)
        rows = [row for row, annotation in enumerate(annotations.tokens) if annotation in missed]
        return annotations.boxes.centre[rows, :2].numpy()


def find_missed(workspace: Workspace, name: str, needed_for: str) -> MissedObjects:
    """The missed objects of a finished comparison.

    Raises:
        ArtifactError: there is no such comparison, or it cannot be used.
        UsageError: nothing is missed.
    """
    comparison = find_comparison(workspace, name, needed_for)
    table = read_missed(comparison)
    by_sample: dict[str, set[str]] = {}
    for token, annotation in zip(table["sample_token"].to_pylist(), table["annotation_token"].to_pylist()):
        by_sample.setdefault(token, set()).add(annotation)
    most_first = sorted(by_sample.items(), key=lambda item: (-len(item[1]), item[0]))
    missed = MissedObjects(comparison, {token: frozenset(tokens) for token, tokens in most_first})
    if not most_first:
        first, second = missed.models
        raise UsageError(f"{comparison.label}: there is nothing that {first} finds and {second} misses.")
    return missed
