"""Stage ``evaluate``: detections of a trained model on a split, the nuScenes submission, the nuScenes metrics."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from crkd_core.artifacts.atomic import write_json
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.find_model import find_model
from crkd_core.artifacts.run_config import read_detector_config, read_run_config
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest, ArtifactWriter
from crkd_core.config.models import DetectorConfig, NMSConfig
from crkd_core.cores import note_loaders
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.loader import LoaderOptions, load_batches
from crkd_core.datasets.nuscenes.splits import splits_of_version
from crkd_core.datasets.prepared import preparing
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import PreparedSource, open_prepared, pin_machine, split_slug
from crkd_core.errors import UsageError
from crkd_core.evaluation.diagnose import SensorInput
from crkd_core.evaluation.finished import METRICS_NAME, OWN_KEY, read_metrics
from crkd_core.evaluation.identity import STAGE, Subject, choose_name
from crkd_core.evaluation.inference import detect
from crkd_core.evaluation.io.detections import SUBMISSION_NAME, TABLE_NAME, Detections, write_submission
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.nuscenes.official import evaluate_official, require_devkit, require_equal
from crkd_core.evaluation.nuscenes.scoring import score_detections
from crkd_core.evaluation.report import sensor_inputs, write_analysis
from crkd_core.progress import Progress, format_count
from crkd_core.training.distributed import choose_device
from crkd_core.training.trained import load_trained

TEST_SPLIT = "test"


@dataclass(frozen=True)
class EvaluateRequest:
    """What to evaluate.

    Attributes:
        model: name of a training run; None for the latest student, or the teacher where there is no student.
        split: train, val or test, or an official split name such as ``mini_val``.
        nuscenes: where the data set is now, if it moved since it was prepared.
        batch_size, workers: how samples are loaded; they change the results by rounding at most.
        prepared: name of the prepared data; None for those the model was trained on, or the latest.
        nms: how boxes are selected from the head's peaks; None for the model's own configuration.
        official: run the nuScenes devkit too, on the submission and the data set's own tables, and compare.
        command: as it was given, for the manifest; None where there was none.
    """

    model: str | None = None
    split: str = "val"
    nuscenes: Path | None = None
    device: str = "auto"
    batch_size: int = 4
    workers: int = 2
    force: bool = False
    prepared: str | None = None
    nms: NMSConfig | None = None
    official: bool = False
    command: Command | None = None


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
    """

    artifact: Artifact
    model: str
    split: str
    metrics: Metrics | None
    reused: bool = False
    official_difference: float | None = None
    results_file: Path | None = None

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


def evaluate(request: EvaluateRequest, workspace: Workspace, progress: Progress) -> EvaluateResult:
    """Detect on every sample of the split in float32, write table and submission, and score them.

    A killed evaluation whose detections were complete continues with the scoring.

    Raises:
        MissingArtifactError: there is no such model, or nothing is prepared.
        ConfigError: the prepared data lack a sensor that the model needs.
        UsageError: the version has no such split.
        DatasetError: the split is empty, a sensor file is missing, or the devkit cannot open the data set.
        MetricsDifferError: the devkit's metrics are others.
    """
    if request.batch_size < 1 or request.workers < 0:
        raise UsageError(
            f"evaluation needs a batch size of at least 1 and no fewer than 0 workers, found {request.batch_size} and "
            f"{request.workers}."
        )
    device = choose_device(request.device)
    model = find_model(workspace, request.model, f"crkd {STAGE}")
    detector = read_detector_config(model)
    prepared = _open_prepared(request, model, detector, workspace, progress)
    split = prepared.official_split(request.split)
    if request.official:
        require_annotated(prepared, split)
        require_alike(prepared, split)
        require_devkit()
    tokens = prepared.tokens(request.split)
    _warn_of_seen_samples(model, prepared, tokens, split, progress)
    subject = Subject(model.name, model.stage)
    output = ArtifactRequest(
        STAGE,
        choose_name(workspace, subject, split_slug(request.split), split, prepared.artifact.name),
        command=_command(request, model, prepared.artifact, detector.head.nms),
        settings={
            "split": split,
            "precision": "fp32",
            "nms": (request.nms or detector.head.nms).model_dump(mode="json"),
        },
        inputs={"model": model.reference(), "prepared": prepared.artifact.reference()},
        force=request.force,
        replace=True,
    )

    def compare(submission: Path, metrics: Metrics | None) -> float | None:
        return compare_with_devkit(submission, prepared, split, tokens, metrics, progress) if request.official else None

    with workspace.write(output) as writer:
        writer.warn(progress)
        if writer.finished is not None:
            metrics = read_metrics(writer.finished)
            difference = compare(writer.finished.file(SUBMISSION_NAME), metrics)
            return EvaluateResult(writer.finished, model.name, split, metrics, True, difference)
        table = _detections_of_stopped_run(writer)
        if table is None:
            found = _detect_all(request, model, prepared, tokens, device, progress)
            write_submission(writer.path / SUBMISSION_NAME, found, tokens, detector.modalities)
            write_table(writer.path / TABLE_NAME, found.table)
            table = found.table
        inputs = sensor_inputs(prepared, tokens, read_run_config(model).data, detector.modalities)
        metrics = score(writer.path, prepared, split, tokens, table, progress, inputs)
        difference = compare(writer.path / SUBMISSION_NAME, metrics)
        artifact = writer.finish(_facts(model, split, tokens, prepared, metrics))
    return EvaluateResult(artifact, model.name, split, metrics, False, difference)


def _command(request: EvaluateRequest, model: Artifact, prepared: Artifact, own_nms: NMSConfig) -> Command:
    command = request.command or Command(STAGE)
    command = command.without("--preset", "--config", "--set").setting("--model", model.label)
    command = command.setting("--split", request.split).setting("--prepared", prepared.name)
    if request.nms is not None:
        role, own = model.manifest.settings["role"], own_nms.model_dump(mode="json")
        for field, value in request.nms.model_dump(mode="json").items():
            if value != own[field]:
                command = command.adding("--set", f"{role}.head.nms.{field}={json.dumps(value)}")
    return pin_machine(command, request.nuscenes, request.device)


def _open_prepared(
    request: EvaluateRequest, model: Artifact, detector: DetectorConfig, workspace: Workspace, progress: Progress
) -> PreparedData:
    source = PreparedSource(request.split, model.manifest.inputs.get("prepared"), progress)
    data = read_run_config(model).data
    return open_prepared(
        workspace, request.prepared, request.nuscenes, data, detector.modalities, f"crkd {STAGE}", source
    )


def _warn_of_seen_samples(
    model: Artifact, prepared: PreparedData, tokens: Sequence[str], split: str, progress: Progress
) -> None:
    """Say it if a model is scored on what it was trained on, unless that was asked for by the name of the split."""
    trained_on = model.manifest.settings.get("split")
    if trained_on is None or trained_on == split or not prepared.has_split(trained_on):
        return
    seen = len(set(tokens) & set(prepared.tokens(trained_on)))
    if seen:
        progress.warning(
            f"{model.label} was trained on {trained_on}, with {seen} of the {len(tokens)} samples of {split} among "
            "its training samples: its scores there say nothing about new data"
        )


def _detect_all(
    request: EvaluateRequest,
    model: Artifact,
    prepared: PreparedData,
    tokens: list[str],
    device: torch.device,
    progress: Progress,
) -> Detections:
    trained = load_trained(model, device)
    data, detector = trained.config.data, trained.detector_config
    dataset = SampleDataset(prepared, tokens, data, detector.modalities, bev=None, seed=trained.config.train.seed)
    indices = list(range(len(tokens)))
    batches = [indices[start : start + request.batch_size] for start in range(0, len(tokens), request.batch_size)]
    note_loaders(request.workers, progress)
    options = LoaderOptions(request.workers, option="--workers ", timeout_option=None)
    found = detect(
        trained.detector,
        load_batches(dataset, batches, options, device),
        data.grid.build(),
        request.nms or detector.head.nms,
        device,
        "fp32",
        progress,
        description=f"{STAGE} {model.name}",
        total=len(tokens),
    )
    return Detections.collect(_with_poses(found, prepared))


def _with_poses(found: Any, prepared: PreparedData) -> Iterator[tuple]:
    for token, detections in found:
        yield token, detections, prepared.global_from_lidar(token)


def _detections_of_stopped_run(writer: ArtifactWriter) -> pa.Table | None:
    """The table is written last, whole: with it, what a killed evaluation found is complete."""
    if not (writer.resumed and all((writer.path / name).exists() for name in (SUBMISSION_NAME, TABLE_NAME))):
        return None
    try:
        return pq.read_table(writer.path / TABLE_NAME)
    except (pa.ArrowException, OSError):
        return None


def score(
    folder: Path,
    prepared: PreparedData,
    split: str,
    tokens: Sequence[str],
    table: pa.Table,
    progress: Progress,
    inputs: Sequence[SensorInput] = (),
) -> Metrics | None:
    """Score a table of detections on the samples `tokens` and write metrics and break-down into `folder`.

    Args:
        inputs: what the model was given, where a model is evaluated.

    Returns:
        None on the test split.

    Raises:
        UsageError: the detections are not what the benchmark accepts.
        DatasetError: nothing is annotated in the samples.
    """
    if not is_annotated(prepared, split):
        progress.message("the test split has no public annotations, so there are no metrics.")
        write_json(folder / METRICS_NAME, None)
        return None
    scoring = score_detections(prepared, tokens, table)
    own = samples_facts(prepared, split, tokens) | {"evaluated": scoring.counts()}
    own |= write_analysis(folder, scoring, prepared, table, inputs, progress)
    write_json(folder / METRICS_NAME, scoring.metrics.to_json() | {OWN_KEY: own})
    return scoring.metrics


def compare_with_devkit(
    submission: Path,
    prepared: PreparedData,
    split: str,
    tokens: Sequence[str],
    metrics: Metrics | None,
    progress: Progress,
) -> float | None:
    """Largest absolute difference between `metrics` and the devkit's on the samples `tokens` of a submission file.

    Returns:
        None where there are no metrics.

    Raises:
        MetricsDifferError: there is a difference.
        DatasetError: the devkit cannot open the data set.
    """
    if metrics is None:
        return None
    # What the devkit has no list of, or only a longer one, it is told sample by sample.
    own = prepared.artifact.manifest.facts.get("own_splits", ())
    is_known = split in (splits_of_version(prepared.version) or ()) and split not in own
    asked = None if is_known and len(tokens) == prepared.split_size(split) else tokens
    official = evaluate_official(prepared.dataroot, prepared.version, split, submission, progress, asked)
    return require_equal(metrics, official)


def is_annotated(prepared: PreparedData, split: str) -> bool:
    """False for the official test split, unless somebody annotated it."""
    return split != TEST_SPLIT or prepared.artifact.manifest.facts["annotations"] > 0


def require_annotated(prepared: PreparedData, split: str) -> None:
    """Refuse ``--official`` where there is nothing to compare.

    Raises:
        UsageError: the annotations of the split are not public.
    """
    if not is_annotated(prepared, split):
        raise UsageError("--official compares metrics, and the test split has none: its annotations are not public.")


def require_alike(prepared: PreparedData, split: str) -> None:
    """Refuse ``--official`` where the devkit treats annotations otherwise by design, so that it could not agree.

    Raises:
        UsageError: saying which boxes those are.
    """
    differences = prepared.artifact.manifest.facts.get(preparing.DEVKIT_DIFFERENCES, {}).get(split, {})
    if differences:
        boxes = " and ".join(f"{format_count(count, 'box', 'boxes')} {kind}" for kind, count in differences.items())
        raise UsageError(
            f"--official cannot agree on {split} of {prepared.version}: the nuScenes devkit treats {boxes} otherwise "
            "(see the report of crkd prepare); leave out --official, or mend the tables."
        )


def samples_facts(prepared: PreparedData, split: str, tokens: Sequence[str]) -> dict[str, int]:
    """What an evaluation says of its samples where they are not all of the split."""
    of_split = prepared.split_size(split)
    return {"samples": len(tokens), "samples_of_split": of_split} if len(tokens) < of_split else {}


def _facts(
    model: Artifact, split: str, tokens: Sequence[str], prepared: PreparedData, metrics: Metrics | None
) -> dict[str, Any]:
    grid = read_run_config(model).data.grid
    facts: dict[str, Any] = {
        "model": model.name,
        "role": model.manifest.settings.get("role"),
        "modalities": model.manifest.settings["detector"]["modalities"],
        "split": split,
        "samples": len(tokens),
        **samples_facts(prepared, split, tokens),
        "extent_m": max(abs(edge) for edge in (*grid.x_range_m, *grid.y_range_m)),
    }
    return facts if metrics is None else facts | {"mean_ap": metrics.mean_ap, "nds": metrics.nds}
