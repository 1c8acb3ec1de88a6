"""What an evaluation gives."""

from dataclasses import dataclass
from pathlib import Path

from crkd_core.artifacts.workspace import Artifact
from crkd_core.evaluation.io.detections import SUBMISSION_NAME
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.report import Analysis


@dataclass(frozen=True)
class EvaluateResult:
    """A finished evaluation.

    Attributes:
        artifact: detections and metrics, and the submission of a model.
        model: the run that was evaluated, or the name of a results file.
        split: official name of the split.
        metrics: the nuScenes metrics; None on the test split, whose annotations are not public.
        reused: an equal evaluation was finished already.
        official_difference: largest absolute difference from the devkit's numbers; None where it was not asked.
        results_file: the file that was evaluated instead of a model; a model's submission is in the artifact.
        analysis: what lies behind the scores; None where it was not asked for, and where there are none.
    """

    artifact: Artifact
    model: str
    split: str
    metrics: Metrics | None
    reused: bool = False
    official_difference: float | None = None
    results_file: Path | None = None
    analysis: Analysis | None = None

    @property
    def samples(self) -> tuple[int, int]:
        """Number of samples that were evaluated, and that the split has."""
        facts = self.artifact.manifest.facts
        scored = facts.get("samples", 0)
        return scored, facts.get("samples_of_split", scored)

    @property
    def submission(self) -> Path:
        """The nuScenes result file of these detections."""
        return self.results_file or self.artifact.file(SUBMISSION_NAME)
