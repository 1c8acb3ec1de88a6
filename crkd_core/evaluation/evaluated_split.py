"""The samples that an evaluation is on, and what it reads of them once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.split_names import TEST
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.evaluation.nuscenes.scoring import GroundTruth, read_ground_truth
from crkd_core.evaluation.statistics.slices import SplitScenes, read_scenes
from crkd_core.progress import Progress


@dataclass(frozen=True)
class EvaluatedSplit:
    """Samples of a split of prepared data.

    Attributes:
        split: official name.
        tokens: the evaluated samples: all of the split, or those that a results file has.
    """

    prepared: PreparedData
    split: str
    tokens: Sequence[str]

    @property
    def is_annotated(self) -> bool:
        """False for the official test split, unless somebody annotated it."""
        return is_annotated(self.prepared, self.split)

    @cached_property
    def ground_truth(self) -> GroundTruth:
        """Annotated boxes of the samples; see ``read_ground_truth`` for what may be wrong with them."""
        return read_ground_truth(self.prepared, self.tokens)

    @cached_property
    def scenes(self) -> SplitScenes:
        """The scenes of the samples."""
        return read_scenes(self.prepared, self.tokens)

    def lidar_from_global(self) -> Float64[np.ndarray, "s 2 2"]:
        """Rotation of horizontal vectors from the global frame to each sample's LiDAR frame."""
        poses = np.stack([self.prepared.global_from_lidar(token) for token in self.tokens])
        return np.ascontiguousarray(poses[:, :2, :2].transpose(0, 2, 1))

    def facts(self) -> dict[str, int]:
        """Numbers of samples, where these are not all of the split."""
        of_split = self.prepared.split_size(self.split)
        return {"samples": len(self.tokens), "samples_of_split": of_split} if len(self.tokens) < of_split else {}

    def warn_of_training_samples(self, model: Artifact, progress: Progress) -> None:
        """Say it if a model is scored on what it was trained on, unless that was asked for by the name of the split."""
        trained_on = model.manifest.settings.get("split")
        if trained_on is None or trained_on == self.split or not self.prepared.has_split(trained_on):
            return
        seen = len(set(self.tokens) & set(self.prepared.tokens(trained_on)))
        if seen:
            progress.warning(
                f"{model.label} was trained on {trained_on}, with {seen} of the {len(self.tokens)} samples of "
                f"{self.split} among its training samples: its scores there say nothing about new data"
            )


def is_annotated(prepared: PreparedData, split: str) -> bool:
    """False for the official test split, unless somebody annotated it."""
    return split != TEST or prepared.artifact.manifest.facts["annotations"] > 0
