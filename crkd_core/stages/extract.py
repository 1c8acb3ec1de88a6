"""Stage ``extract-teacher``: run the frozen teacher once per sample and view, and keep what the losses need."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from crkd_core.artifacts.atomic import write_json
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.configuration import pin_configuration
from crkd_core.artifacts.run_config import read_detector_config
from crkd_core.artifacts.shards import shard_name, write_index
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest, ArtifactWriter
from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.schema import Config
from crkd_core.cores import note_loaders
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import (
    PreparedSource,
    check_objects,
    open_prepared,
    pin_machine,
    pin_split,
    split_settings,
)
from crkd_core.distillation.requirements import check_terms
from crkd_core.errors import DatasetError, UsageError, WriteError
from crkd_core.evaluation.nuscenes.scoring import score_detections
from crkd_core.progress import Progress, SilentProgress, format_count, format_seconds, format_size
from crkd_core.teacher_cache.extraction import Estimate, Extraction, ItemPlan, join_detections
from crkd_core.teacher_cache.settings import STAGE, check_teacher, target_settings
from crkd_core.teacher_cache.verification import Verification, verify_targets
from crkd_core.training.distributed import ProcessGroup, choose_device, pin_processes, process_group, shared_writer

METRICS_NAME = "teacher_metrics.json"
POOR_MEAN_AP = 0.05
"""Below this mAP on its own training samples a teacher is warned of."""


@dataclass(frozen=True)
class ExtractRequest:
    """What to extract.

    Attributes:
        config: the resolved configuration; ``distill`` says what is kept, ``data`` which views.
        teacher: name of the teacher's run; None for the latest.
        name: name of the targets.
        split: samples to extract targets of; ``trainval`` for train and val together.
        plan: only measure a few samples and report; nothing is written.
        verify: afterwards, compute this many random items again and compare them with what is stored.
        command: as it was given, for the manifest; None where there was none.
    """

    config: Config
    teacher: str | None = None
    name: str = "targets"
    prepared: str | None = None
    nuscenes: Path | None = None
    device: str = "auto"
    plan: bool = False
    verify: int = 0
    force: bool = False
    resume: bool = True
    split: str = "train"
    command: Command | None = None


@dataclass(frozen=True)
class ExtractResult:
    """Extracted (or, with `plan`, expected) teacher targets.

    Attributes:
        artifact: the targets; None with `plan`.
        items: samples times views; `views` of each sample.
        bytes_total, bytes_per_item: on disk.
        seconds: wall time of this call; with `plan`, the expected time of one process.
        reused: equal targets were there already.
        teacher_mean_ap: the teacher's own mAP (0 to 1) on the training samples in their first view; None with `plan`,
            and where nothing is annotated.
        verification: what was found if some items were to be verified.
    """

    artifact: Artifact | None
    items: int
    views: int
    bytes_total: int
    bytes_per_item: int
    seconds: float
    reused: bool = False
    teacher_mean_ap: float | None = None
    verification: Verification | None = None


def extract_teacher(request: ExtractRequest, workspace: Workspace, progress: Progress) -> ExtractResult | None:
    """Write the teacher targets of every training sample in every view as tensor shards (design: targets in K views).

    The augmentation of view k is a pure function of (seed, sample token, k); it is stored beside the targets, and the
    student replays it. Before it starts it says what it will write and how long that takes. A killed extraction
    continues with the first shard that is missing and ends with the same bytes. The teacher's own detections are scored
    on the way. Returns None on every process but the first of a distributed run.

    Raises:
        MissingArtifactError: there is no teacher or nothing is prepared.
        DamagedArtifactError: the teacher's weights or configuration changed since it was trained, it answers with
            values that are not finite, or stored targets are not what it says (`verify`).
        StaleArtifactError: the teacher was trained on another grid than the configuration asks for, or targets of that
            name, finished or not, are another teacher's or have other settings.
        ConfigError: a loss compares maps of a sensor that the teacher does not have.
        DatasetError: there is no object to learn from.
        WriteError: the targets will not fit on the disk.
    """
    began = time.monotonic()
    config = request.config
    if not config.distill.losses:
        raise UsageError(
            f"distill.losses is empty, so there is nothing to extract; name some of {', '.join(LOSS_NAMES)}."
        )
    teacher = workspace.find("train-teacher", request.teacher, needed_for=f"crkd {STAGE}", make="crkd train-teacher")
    check_teacher(teacher, config, request.command)
    detector = read_detector_config(teacher)
    check_terms(config.distill, config.data.grid.build(), None, detector)
    source = PreparedSource(request.split, teacher.manifest.inputs.get("prepared"), progress)
    prepared = open_prepared(
        workspace, request.prepared, request.nuscenes, config.data, detector.modalities, f"crkd {STAGE}", source
    )
    check_objects(prepared, prepared.tokens(request.split), config.data)
    work = _Work(request, teacher, prepared)
    if request.plan:
        return work.expect(progress)
    with process_group(request.device) as processes:
        progress = progress if processes.is_first else SilentProgress()
        output = ArtifactRequest(
            STAGE,
            request.name,
            command=pin_processes(_command(request, workspace, teacher, prepared.artifact), processes),
            settings=target_settings(config) | split_settings(prepared, request.split),
            inputs={"teacher": teacher.reference(), "prepared": prepared.artifact.reference()},
            force=request.force,
            resume=request.resume,
        )
        with shared_writer(workspace, processes, output) as (writer, folder):
            if writer is not None:
                writer.warn(progress)
            if folder is not None:
                work.run(folder, processes, progress)
                processes.barrier()
            if writer is None:
                return None
            reused = writer.finished is not None
            artifact = writer.finished or work.finish(writer, progress)
        verification = work.verify(artifact, processes, progress) if request.verify else None
    facts = artifact.manifest.facts
    return ExtractResult(
        artifact,
        facts["items"],
        facts["views"],
        facts["bytes"],
        facts["bytes"] // max(facts["items"], 1),
        time.monotonic() - began,
        reused,
        facts["teacher_mean_ap"],
        verification,
    )


def _command(request: ExtractRequest, workspace: Workspace, teacher: Artifact, prepared: Artifact) -> Command:
    command = pin_configuration(request.command, STAGE, request.name, request.config, workspace)
    command = command.setting("--teacher", teacher.name).setting("--name", request.name)
    command = pin_split(command, request.split)
    return pin_machine(command.setting("--prepared", prepared.name), request.nuscenes, request.device)


class _Work:
    """What one call of the stage does, with the teacher loaded at most once."""

    def __init__(self, request: ExtractRequest, teacher: Artifact, prepared: PreparedData) -> None:
        self._request = request
        self._artifact = teacher
        self._prepared = prepared
        self._plan = ItemPlan(prepared.tokens(request.split), request.config)
        self._loaded: Extraction | None = None

    def _extraction(self, device: torch.device) -> Extraction:
        if self._loaded is None:
            self._loaded = Extraction(self._plan, self._artifact, self._prepared, self._request.config, device)
        return self._loaded

    def expect(self, progress: Progress) -> ExtractResult:
        """Size and time from a few batches."""
        estimate = self._extraction(choose_device(self._request.device)).measure(0, progress)
        items = len(self._plan)
        size = estimate.bytes_per_item
        return ExtractResult(None, items, self._plan.views, size * items, size, estimate.seconds_per_item * items)

    def run(self, folder: Path, processes: ProcessGroup, progress: Progress) -> None:
        """Write this process's share of the missing shards."""
        own = self._plan.missing(folder, processes.rank, processes.size)
        if not own:
            return
        extraction = self._extraction(processes.device)
        note_loaders(self._request.config.train.workers, progress)
        if processes.is_first:
            self._announce(extraction.measure(own[0], progress), folder, processes, progress)
        share = range(processes.rank, len(self._plan.shards), processes.size)
        done = sum(len(self._plan.shards[number]) for number in share if number not in set(own))
        extraction.run(folder, own, done, progress)

    def _announce(self, estimate: Estimate, folder: Path, processes: ProcessGroup, progress: Progress) -> None:
        missing = self._plan.missing(folder)
        items = sum(len(self._plan.shards[number]) for number in missing)
        needed, free = items * estimate.bytes_per_item, shutil.disk_usage(folder).free
        if needed > free:
            raise WriteError(
                f"the targets need about {format_size(needed)} more, and the disk of {folder} has {format_size(free)} "
                "left; free some space, choose another --workspace, or store less (distill.targets.storage=int8, or "
                "fewer distill.targets.views)."
            )
        seconds = items * estimate.seconds_per_item / processes.size
        already = len(self._plan) - items
        samples, views = format_count(len(self._plan.tokens), "sample"), format_count(self._plan.views, "view")
        kept = f", {already} already there" if already else ""
        shards = format_count(len(missing), "shard")
        progress.message(
            f"writing {format_count(items, 'item')} ({samples} x {views}{kept}) in {shards} to {folder}: about "
            f"{format_size(needed)} ({format_size(estimate.bytes_per_item)} each), in about {format_seconds(seconds)} "
            f"on {format_count(processes.size, 'process', 'processes')}"
        )

    def finish(self, writer: ArtifactWriter, progress: Progress) -> Artifact:
        """Index the shards and score the teacher."""
        shards = [shard_name(number) for number in range(len(self._plan.shards))]
        items = write_index(writer.path, shards)
        table, parts = join_detections(writer.path, self._plan)
        scores: dict[str, float | None] = {"teacher_mean_ap": None, "teacher_nds": None}
        try:
            metrics = score_detections(self._prepared, self._plan.tokens, table).metrics
            scores = {"teacher_mean_ap": metrics.mean_ap, "teacher_nds": metrics.nds}
            write_json(writer.path / METRICS_NAME, metrics.to_json())
        except DatasetError as error:
            progress.warning(f"the teacher cannot be scored: {error}")
        size = sum((writer.path / shard).stat().st_size for shard in shards)
        # Targets fit whatever was prepared from these tables, whichever of its files are at hand.
        of_tables = {"tables_sha256": self._prepared.artifact.manifest.settings["tables_sha256"]}
        counts = {"items": items, "views": self._plan.views, "bytes": size, "shards": len(shards)}
        facts = {**counts, **scores, **of_tables}
        artifact = writer.finish(facts, scratch=parts)
        warn_of_poor_teacher(artifact, progress)
        return artifact

    def verify(self, artifact: Artifact, processes: ProcessGroup, progress: Progress) -> Verification:
        """Compare some items with the live teacher."""
        extraction = self._extraction(processes.device)
        return verify_targets(artifact, self._plan, extraction, self._request.verify, progress)


def warn_of_poor_teacher(targets: Artifact, progress: Progress) -> None:
    """Say it if the teacher of stored targets finds next to nothing in the samples it was trained on."""
    mean_ap = targets.manifest.facts.get("teacher_mean_ap")
    if mean_ap is not None and mean_ap < POOR_MEAN_AP:
        progress.warning(
            f"the teacher of {targets.label} hardly finds anything: its mAP on the training samples is {mean_ap:.3f}; "
            "students learn its mistakes (too few epochs, a broken checkpoint?)"
        )
