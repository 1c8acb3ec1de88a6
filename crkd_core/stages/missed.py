"""What one model of a comparison finds and the other misses, as samples to draw and places to mark."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import UsageError
from crkd_core.stages.compare import find_comparison, read_missed


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

    def places(self, token: str, prepared: PreparedData) -> NDArray[np.float32]:
        """(M, 2) x, y of the missed objects of a sample in its model frame (m)."""
        missed, annotations = self.annotations.get(token, frozenset()), prepared.annotations(token)
        chosen = [place for place, annotation in enumerate(annotations.tokens) if annotation in missed]
        return annotations.boxes.centre[chosen, :2].numpy()


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
    found = MissedObjects(comparison, {token: frozenset(tokens) for token, tokens in most_first})
    if not most_first:
        raise UsageError(
            f"{comparison.label}: there is nothing that {found.models[0]} finds and {found.models[1]} misses."
        )
    return found
