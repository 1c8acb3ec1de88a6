"""Stage ``evaluate``: nuScenes metrics of a trained model's detections, or of any detector's results file."""

from pathlib import Path

from crkd_core.artifacts.find_model import find_model
from crkd_core.artifacts.run_config import read_run_configuration
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.datasets.prepared.source import PreparedSource, open_prepared
from crkd_core.evaluation.devkit_check import compare_with_devkit, require_comparable
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.finished import FinishedEvaluation, read_metrics
from crkd_core.evaluation.identity import STAGE
from crkd_core.evaluation.inference import PARTS, SplitDetection
from crkd_core.evaluation.model_source import EvaluateRequest, ModelSource
from crkd_core.evaluation.report import Analysis, AnalysisRequest, breakdown_of, read_diagnoses, write_scores
from crkd_core.evaluation.result import EvaluateResult
from crkd_core.evaluation.results_source import ResultsRequest, ResultsSource, open_results
from crkd_core.progress import Progress, SilentProgress
from crkd_core.training.distributed import ProcessGroup, pin_processes, process_group, shared_writer
from crkd_core.training.trained import load_trained, weights_name


def evaluate(
    request: EvaluateRequest | ResultsRequest, workspace: Workspace, progress: Progress
) -> EvaluateResult | None:
    """Detect on every sample of the split or read a results file, and score the detections.

    Every process of a distributed run detects on its share; in float32, the files do not depend on their number. A
    killed evaluation continues with the batches that were not finished. Returns None on every process but the first.

    Raises:
        MissingArtifactError: there is no such model, or nothing is prepared.
        ConfigError: the prepared data lack a sensor that the model needs.
        UsageError: the version has no such split, or the file is not what the benchmark accepts.
        DatasetError: the split is empty, a sensor file is missing, or the devkit cannot open the data set.
        MetricsDifferError: the devkit's metrics are others.
    """
    with process_group(request.device if isinstance(request, EvaluateRequest) else "cpu") as processes:
        if isinstance(request, EvaluateRequest):
            shown = progress if processes.is_first else SilentProgress()
            return _evaluate(_open_model(request, workspace, processes, shown), request, workspace, processes, shown)
        if not processes.is_first:
            return None
        # There is nothing that the others could do with a file.
        alone = ProcessGroup(0, 1, processes.device)
        return _evaluate(open_results(request, workspace, progress), request, workspace, alone, progress)


def _evaluate(
    source: ModelSource | ResultsSource,
    request: EvaluateRequest | ResultsRequest,
    workspace: Workspace,
    processes: ProcessGroup,
    progress: Progress,
) -> EvaluateResult | None:
    output = ArtifactRequest(
        STAGE,
        source.name(workspace),
        pin_processes(source.command(), processes),
        source.settings,
        source.inputs,
        force=request.force,
        replace=True,
    )
    scored = None
    with shared_writer(workspace, processes, output) as (writer, folder):
        if writer is not None:
            writer.warn(progress)
        if folder is not None:
            source.fill(folder, processes.rank, processes.size, progress)
            processes.barrier()
        if writer is None:
            return None
        artifact = writer.finished
        if artifact is None:
            samples, table = source.write(writer.path, progress)
            scored = write_scores(writer.path, samples, table, source.sensor_inputs(), progress)
            metrics = scored.scoring.metrics if scored is not None else None
        else:
            samples, metrics = source.samples_of(artifact), read_metrics(artifact)
        difference = None
        if request.official:
            submission = source.submission(writer.path if artifact is None else artifact.path)
            difference = compare_with_devkit(submission, samples, metrics, progress)
        reused = artifact is not None
        artifact = artifact or writer.finish(source.facts(samples, metrics), scratch=(PARTS,))
    analysis = None
    if request.analysis is not None and metrics is not None:
        analysis = _analyse(FinishedEvaluation(artifact, workspace, scored), request.analysis, progress)
    file = request.file if isinstance(request, ResultsRequest) else None
    return EvaluateResult(artifact, source.subject.name, samples.split, metrics, reused, difference, file, analysis)


def _open_model(
    request: EvaluateRequest, workspace: Workspace, processes: ProcessGroup, progress: Progress
) -> ModelSource:
    request.check()
    model = find_model(workspace, request.model, f"crkd {STAGE}")
    weights_name(model, request.weights)  # before anything is written
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
    detection = SplitDetection(
        configuration,
        samples,
        request.inference(configuration, processes.device),
        load=lambda: load_trained(model, processes.device, configuration, request.weights).detector,
    )
    return ModelSource(request, model, configuration, samples, detection)


def _analyse(evaluation: FinishedEvaluation, request: AnalysisRequest, progress: Progress) -> Analysis:
    breakdown = breakdown_of(evaluation, request.resamples, progress)
    pictures: tuple[Path, ...] = ()
    if request.curves:
        # Here, because importing matplotlib takes a while.
        from crkd_core.visualization.evaluation_curves import score_curves

        pictures = score_curves(evaluation)
    return Analysis(breakdown, read_diagnoses(evaluation.artifact), pictures)
