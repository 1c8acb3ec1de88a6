"""Stage ``extract-teacher``: teacher targets from one pass of the frozen teacher per sample and view."""

import time
from dataclasses import dataclass
from pathlib import Path

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.configuration import pin_configuration
from crkd_core.artifacts.run_config import read_detector_config
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.schema import Config
from crkd_core.config.split_names import TRAIN
from crkd_core.datasets.prepared.source import (
    PreparedSource,
    check_objects,
    open_prepared,
    pin_machine,
    pin_split,
)
from crkd_core.distillation.requirements import check_terms
from crkd_core.errors import UsageError
from crkd_core.progress import Progress, SilentProgress
from crkd_core.teacher_cache.build import CacheBuild
from crkd_core.teacher_cache.settings import STAGE, check_teacher, target_settings
from crkd_core.teacher_cache.verification import Verification
from crkd_core.training.distributed import choose_device, pin_processes, process_group, shared_writer


@dataclass(frozen=True)
class ExtractRequest:
    """What to extract.

    Attributes:
        config: the resolved configuration; ``distill`` says what is kept, ``data`` which views.
        teacher, name: of the teacher's run, None for the latest, and of the targets.
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
    split: str = TRAIN
    command: Command | None = None


@dataclass(frozen=True)
class ExtractResult:
    """Extracted (or, with `plan`, expected) teacher targets.

    Attributes:
        artifact: the targets; None with `plan`.
        items: samples times views; `views` of each sample; `bytes_total` of all on disk.
        seconds: wall time of this call; with `plan`, the expected time of one process.
        reused: equal targets were there already.
        teacher_mean_ap: the teacher's own mAP (0 to 1) on these samples; None with `plan` or without annotations.
        verification: of some items against the live teacher, where it was asked for.
    """

    artifact: Artifact | None
    items: int
    views: int
    bytes_total: int
    seconds: float
    reused: bool = False
    teacher_mean_ap: float | None = None
    verification: Verification | None = None

    @property
    def bytes_per_item(self) -> int:
        """On disk, the mean."""
        return self.bytes_total // max(self.items, 1)


def extract_teacher(request: ExtractRequest, workspace: Workspace, progress: Progress) -> ExtractResult | None:
    """Write the teacher targets of every training sample in every view as tensor shards.

    The augmentation of view k is a pure function of (seed, sample token, k); it is stored beside the targets, and the
    student replays it. A killed extraction continues with the first shard that is missing and ends with the same bytes.
    The teacher's own detections are scored on the way. Returns None on every process but the first.

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
    began, config = time.monotonic(), request.config
    if not config.distill.losses:
        raise UsageError(f"distill.losses is empty: there is nothing to extract; name some of {', '.join(LOSS_NAMES)}.")
    teacher = workspace.find("train-teacher", request.teacher, needed_for=f"crkd {STAGE}", make="crkd train-teacher")
    check_teacher(teacher, config, request.command)
    detector = read_detector_config(teacher)
    check_terms(config.distill, config.data.grid.build(), None, detector)
    source = PreparedSource(request.split, teacher.manifest.inputs.get("prepared"), progress)
    prepared = open_prepared(
        workspace, request.prepared, request.nuscenes, config.data, detector.modalities, f"crkd {STAGE}", source
    )
    check_objects(prepared, prepared.tokens(request.split), config.data)
    build = CacheBuild(config, teacher, prepared, request.split)
    if request.plan:
        estimate, items = build.estimate(choose_device(request.device), progress), len(build.plan)
        size, seconds = estimate.bytes_per_item * items, estimate.seconds_per_item * items
        return ExtractResult(None, items, build.plan.views, size, seconds)
    with process_group(request.device) as processes:
        progress = progress if processes.is_first else SilentProgress()
        output = ArtifactRequest(
            STAGE,
            request.name,
            command=pin_processes(_command(request, workspace, teacher, prepared.artifact), processes),
            settings=target_settings(config) | build.data_settings,
            inputs={"teacher": teacher.reference(), "prepared": prepared.artifact.reference()},
            force=request.force,
            resume=request.resume,
        )
        with shared_writer(workspace, processes, output) as (writer, folder):
            if writer is not None:
                writer.warn(progress)
            if folder is not None:
                build.fill(folder, processes, progress)
            if writer is None:
                return None
            reused = writer.finished is not None
            artifact = writer.finished or build.finish(writer, progress)
        verification = build.verify(artifact, request.verify, processes.device, progress) if request.verify else None
    facts = artifact.manifest.facts
    counts, seconds = (facts["items"], facts["views"], facts["bytes"]), time.monotonic() - began
    return ExtractResult(artifact, *counts, seconds, reused, facts["teacher_mean_ap"], verification)


def _command(request: ExtractRequest, workspace: Workspace, teacher: Artifact, prepared: Artifact) -> Command:
    command = pin_configuration(request.command, STAGE, request.name, request.config, workspace)
    command = pin_split(command.setting("--teacher", teacher.name).setting("--name", request.name), request.split)
    return pin_machine(command.setting("--prepared", prepared.name), request.nuscenes, request.device)
