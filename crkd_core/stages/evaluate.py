"""Stage ``evaluate``: nuScenes metrics of a trained model's detections, or of any detector's results file."""

from dataclasses import dataclass
from pathlib import Path

from crkd_core.artifacts.find_model import find_model
from crkd_core.artifacts.run_config import read_run_configuration
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.datasets.prepared.source import PreparedSource, open_prepared
from crkd_core.evaluation.devkit_check import compare_with_devkit, require_comparable
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.finished import FinishedEvaluation, read_metrics
from crkd_core.evaluation.identity import STAGE
from crkd_core.evaluation.inference import InferenceOptions, detect_split
from crkd_core.evaluation.io.detections import SUBMISSION_NAME, Detections
from crkd_core.evaluation.model_source import EvaluateRequest, ModelSource
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.report import Analysis, AnalysisRequest, breakdown_of, read_diagnoses, write_scores
from crkd_core.evaluation.results_source import ResultsRequest, ResultsSource, open_results
from crkd_core.progress import Progress
from crkd_core.training.distributed import choose_device
from crkd_core.training.trained import load_trained


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


def evaluate(request: EvaluateRequest | ResultsRequest, workspace: Workspace, progress: Progress) -> EvaluateResult:
    """Detect on every sample of the split in float32 or read a results file, and score the detections.

    A killed evaluation whose detections were complete continues with the scoring.

    Raises:
        MissingArtifactError: there is no such model, or nothing is prepared.
        ConfigError: the prepared data lack a sensor that the model needs.
        UsageError: the version has no such split, or the file is not what the benchmark accepts.
        DatasetError: the split is empty, a sensor file is missing, or the devkit cannot open the data set.
        MetricsDifferError: the devkit's metrics are others.
    """
    source: ModelSource | ResultsSource
    if isinstance(request, ResultsRequest):
        source = open_results(request, workspace, progress)
    else:
        source = _open_model(request, workspace, progress)
    output = ArtifactRequest(
        STAGE,
        source.name(workspace),
        source.command(),
        source.settings,
        source.inputs,
        force=request.force,
        replace=True,
    )
    scored = None
    with workspace.write(output) as writer:
        writer.warn(progress)
        artifact = writer.finished
        if artifact is None:
            samples, table = source.write(writer, progress)
            scored = write_scores(writer.path, samples, table, source.sensor_inputs(), progress)
            metrics = scored.scoring.metrics if scored is not None else None
        else:
            samples, metrics = source.samples_of(artifact), read_metrics(artifact)
        difference = None
        if request.official:
            submission = source.submission(writer.path if artifact is None else artifact.path)
            difference = compare_with_devkit(submission, samples, metrics, progress)
        reused = artifact is not None
        artifact = artifact or writer.finish(source.facts(samples, metrics))
    analysis = None
    if request.analysis is not None and metrics is not None:
        analysis = _analyse(FinishedEvaluation(artifact, workspace, scored), request.analysis, progress)
    file = request.file if isinstance(request, ResultsRequest) else None
    return EvaluateResult(artifact, source.subject.name, samples.split, metrics, reused, difference, file, analysis)


def _open_model(request: EvaluateRequest, workspace: Workspace, progress: Progress) -> ModelSource:
    request.check()
    device = choose_device(request.device)
    model = find_model(workspace, request.model, f"crkd {STAGE}")
    configuration = read_run_configuration(model)
    prepared = open_prepared(
        workspace,
        request.prepared,
        request.nuscenes,
        configuration.config.data,
        configuration.detector.modalities,
        f"crkd {STAGE}",
        PreparedSource(request.split, model.manifest.inputs.get("prepared"), progress),
    )
    split = prepared.official_split(request.split)
    if request.official:
        require_comparable(prepared, split)
    samples = EvaluatedSplit(prepared, split, prepared.tokens(request.split))
    samples.warn_of_training_samples(model, progress)

    def detect(source: ModelSource, progress: Progress) -> Detections:
        trained = load_trained(model, device, configuration)
        options = InferenceOptions(source.nms, device, request.batch_size, request.workers)
        return detect_split(trained.detector, configuration, samples, options, f"{STAGE} {model.name}", progress)

    return ModelSource(request, model, configuration, samples, detect)


def _analyse(evaluation: FinishedEvaluation, request: AnalysisRequest, progress: Progress) -> Analysis:
    breakdown = breakdown_of(evaluation, request.resamples, progress)
    pictures: tuple[Path, ...] = ()
    if request.curves:
        # Here, because importing matplotlib takes a while.
        from crkd_core.visualization.evaluation_curves import score_curves

        pictures = score_curves(evaluation)
    return Analysis(breakdown, read_diagnoses(evaluation.artifact), pictures)
