"""Stage ``extract-teacher``: run the frozen teacher once per sample and view, and keep what the losses need."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from crkd_core.artifacts.shards import ItemKey, pack_item, shard_name, write_index, write_shard
from crkd_core.artifacts.workspace import Artifact, ArtifactWriter, Workspace
from crkd_core.config.distill import DistillConfig
from crkd_core.config.models import DetectorConfig
from crkd_core.config.schema import Config
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.loader import load_batches
from crkd_core.data.prepared import PreparedData
from crkd_core.data.samples import Batch
from crkd_core.distillation.requirements import check_terms
from crkd_core.distillation.storage import encode_targets
from crkd_core.distillation.targets import split_targets
from crkd_core.errors import StaleArtifactError, UsageError
from crkd_core.progress import Progress, SilentProgress, Task
from crkd_core.stages.inputs import open_prepared
from crkd_core.stages.runs import shared_writer
from crkd_core.training.distributed import ProcessGroup, choose_device, process_group
from crkd_core.training.steps import FrozenTeacher
from crkd_core.training.trained import load_trained, read_run_config

STAGE = "extract-teacher"
_PLAN_BATCHES = 2


@dataclass(frozen=True)
class ExtractRequest:
    """What to extract.

    Attributes:
        config: the resolved configuration; ``distill`` says what is kept, ``data`` which views.
        teacher: name of the teacher's run; None for the latest.
        name: name of the targets.
        plan: only measure a few samples and report; nothing is written.
    """

    config: Config
    teacher: str | None = None
    name: str = "targets"
    prepared: str | None = None
    nuscenes: Path | None = None
    device: str = "auto"
    plan: bool = False
    force: bool = False
    resume: bool = True


@dataclass(frozen=True)
class ExtractResult:
    """Extracted (or, with `plan`, expected) teacher targets.

    Attributes:
        artifact: the targets; None with `plan`.
        items: samples times views; `views` of each sample.
        bytes_total, bytes_per_item: stored tensor bytes.
        seconds: wall time of this call; with `plan`, the expected time on this many processes.
        reused: equal targets were there already.
    """

    artifact: Artifact | None
    items: int
    views: int
    bytes_total: int
    bytes_per_item: int
    seconds: float
    reused: bool = False


def target_settings(config: Config) -> dict[str, Any]:
    """Everything in a configuration that determines teacher targets, besides teacher and data."""
    distill = config.distill
    return {
        "losses": list(distill.losses),
        "grid": config.data.grid.model_dump(mode="json"),
        "image": config.data.image.model_dump(mode="json"),
        "lidar": config.data.lidar.model_dump(mode="json"),
        "augmentation": config.data.augment_student.model_dump(mode="json"),
        "augment_images": config.data.augment_images,
        "seed": distill.targets.seed,
        "views": distill.targets.views,
        "storage": distill.targets.storage,
        **_loss_settings(distill),
    }


def _loss_settings(distill: DistillConfig) -> dict[str, Any]:
    msfd = distill.msfd.model_dump(mode="json", exclude={"camera_weight", "fused_weight"})
    if "mask" in distill.released_quirks:
        msfd["mask"] = "released"
    of_losses: dict[str, tuple[str, Any]] = {
        "csrd": ("csrd", distill.csrd.model_dump(mode="json", exclude={"weight"})),
        "msfd": ("msfd", msfd),
        "reld": ("reld_scales", list(distill.reld.scales)),
        "respd": ("respd_box_threshold", distill.respd.box_threshold),
    }
    return dict(of_losses[loss] for loss in distill.losses)


def extract_teacher(request: ExtractRequest, workspace: Workspace, progress: Progress) -> ExtractResult | None:
    """Write the teacher targets of every training sample in every view as tensor shards (design: targets in K views).

    The augmentation of view k is a pure function of (seed, sample token, k); it is stored beside the targets, and the
    student replays it. A killed extraction continues with the first shard that is missing and ends with the same
    bytes. Returns None on every process but the first of a distributed run.

    Raises:
        MissingArtifactError: there is no teacher or nothing is prepared.
        StaleArtifactError: the teacher was trained on another grid than the configuration asks for.
        ConfigError: a loss compares maps of a sensor that the teacher does not have.
    """
    began = time.monotonic()
    config = request.config
    if not config.distill.losses:
        raise UsageError(
            "distill.losses is empty, so there is nothing to extract; name some of csrd, msfd, reld, respd."
        )
    teacher = workspace.find("train-teacher", request.teacher, needed_for=f"crkd {STAGE}", make="crkd train-teacher")
    _check_teacher(teacher, config)
    detector = DetectorConfig.model_validate(teacher.manifest.settings["detector"])
    check_terms(config.distill, config.data.grid.build(), None, detector)
    modalities = detector.modalities
    prepared = open_prepared(workspace, request.prepared, request.nuscenes, config.data, modalities, f"crkd {STAGE}")
    work = _Extraction(prepared, config, modalities)
    if request.plan:
        return work.plan(teacher, choose_device(request.device), progress)
    with process_group(request.device) as processes:
        how = {
            "command": f"crkd {STAGE} --name {request.name}",
            "settings": target_settings(config),
            "inputs": {"teacher": teacher.reference(), "prepared": prepared.artifact.reference()},
            "force": request.force,
            "resume": request.resume,
            "replace": True,
        }
        with shared_writer(workspace, processes, STAGE, request.name, **how) as (writer, folder):
            if folder is not None:
                work.run(teacher, folder, processes, progress if processes.is_first else SilentProgress())
                processes.barrier()
            if writer is None:
                return None
            reused = writer.finished is not None
            artifact = writer.finished or _finish(writer, work)
        facts = artifact.manifest.facts
        per_item = facts["bytes"] // max(facts["items"], 1)
        seconds = time.monotonic() - began
        return ExtractResult(artifact, facts["items"], facts["views"], facts["bytes"], per_item, seconds, reused)


def _finish(writer: ArtifactWriter, work: "_Extraction") -> Artifact:
    shards = [shard_name(number) for number in range(len(work.shards))]
    items = write_index(writer.path, shards)
    size = sum((writer.path / shard).stat().st_size for shard in shards)
    return writer.finish({"items": items, "views": work.views, "bytes": size, "shards": len(shards)})


def _check_teacher(teacher: Artifact, config: Config) -> None:
    trained = read_run_config(teacher)
    for section in ("grid", "image"):
        expected = getattr(config.data, section).model_dump(mode="json")
        found = getattr(trained.data, section).model_dump(mode="json")
        differing = [key for key in expected if expected[key] != found[key] and key not in _AUGMENTATION_KEYS]
        if differing:
            key = differing[0]
            raise StaleArtifactError(
                f"the teacher {teacher.label} was trained with data.{section}.{key} = {found[key]}, and this "
                f"run asks for "
                f"{expected[key]}; use its configuration, or train another teacher with: crkd train-teacher --name NEW"
            )


# How images vary while training may differ between teacher and student; what the network takes in may not.
_AUGMENTATION_KEYS = {"train_resize", "test_resize", "rotation_deg", "flip"}


class _Extraction:
    """The items of an extraction in shards, and running the teacher over them."""

    def __init__(self, prepared: PreparedData, config: Config, modalities: tuple[str, ...]) -> None:
        self._config = config
        self._tokens = prepared.tokens("train")
        self._dataset = SampleDataset(
            prepared,
            self._tokens,
            config.data,
            modalities,
            bev=config.data.augment_student,
            seed=config.distill.targets.seed,
        )
        self.views = config.distill.targets.views
        # All samples of a view together: an epoch of the student reads one view.
        items = [(index, view) for view in range(self.views) for index in range(len(self._tokens))]
        size = config.distill.targets.samples_per_shard
        self.shards = [items[start : start + size] for start in range(0, len(items), size)]

    def run(self, teacher: Artifact, folder: Path, processes: ProcessGroup, progress: Progress) -> None:
        """Write this process's share of the missing shards."""
        own = range(processes.rank, len(self.shards), processes.size)
        missing = [number for number in own if not (folder / shard_name(number)).exists()]
        done = sum(len(self.shards[number]) for number in own) - sum(len(self.shards[number]) for number in missing)
        if not missing:
            return
        with progress.task(
            "extract-teacher", total=sum(len(self.shards[n]) for n in own), unit="sample", done=done
        ) as task:
            results = self._targets(teacher, missing, processes.device, task)
            for number in missing:
                items = dict(next(results) for _ in self.shards[number])
                write_shard(folder / shard_name(number), items)

    def _targets(
        self, teacher: Artifact, shards: list[int], device: torch.device, task: Task
    ) -> Iterator[tuple[ItemKey, dict[str, torch.Tensor]]]:
        # Batches never cross shards, so that a continued run computes the same batches as an uninterrupted one.
        size = self._config.train.distill.batch_size
        batches = [
            self.shards[number][start : start + size]
            for number in shards
            for start in range(0, len(self.shards[number]), size)
        ]
        frozen = FrozenTeacher(
            load_trained(teacher, device).detector, self._config.data.grid.build(), self._config.distill
        )
        for keys, batch in zip(batches, load_batches(self._dataset, batches, self._config.train.workers, device)):
            items = list(self._items(frozen, keys, batch.to(device)))
            task.advance(len(batch))
            yield from items

    def _items(
        self, teacher: FrozenTeacher, keys: list[tuple[int, int]], batch: Batch
    ) -> Iterator[tuple[ItemKey, dict[str, torch.Tensor]]]:
        for (index, view), targets in zip(keys, split_targets(teacher(batch))):
            tensors = encode_targets(targets, self._config.distill.targets.storage)
            key = ItemKey(self._tokens[index], view)
            yield key, tensors | self._dataset.view_of(index, view).tensors()

    def plan(self, teacher: Artifact, device: torch.device, progress: Progress) -> ExtractResult:
        """Measure a few batches and extrapolate to all items."""
        count = min(_PLAN_BATCHES * self._config.train.distill.batch_size, len(self.shards[0]))
        sample = _Extraction.__new__(_Extraction)
        sample.__dict__ = {**self.__dict__, "shards": [self.shards[0][:count]]}
        with progress.task("measuring", total=count, unit="sample") as task:
            began = time.monotonic()
            items = list(sample._targets(teacher, [0], device, task))
            seconds = time.monotonic() - began
        size = sum(len(pack_item(tensors)) for _, tensors in items) // max(len(items), 1)
        total = sum(len(shard) for shard in self.shards)
        return ExtractResult(None, total, self.views, size * total, size, seconds / max(len(items), 1) * total)
