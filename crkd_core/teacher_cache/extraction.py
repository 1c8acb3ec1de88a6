"""A frozen teacher that fills the items of an extraction."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from crkd_core.artifacts.command import command_text
from crkd_core.artifacts.shards import ItemKey, pack_item, shard_name, write_shard
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.schema import Config
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.loader import LoaderOptions, load_batches
from crkd_core.data.samples import Batch
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import DamagedArtifactError
from crkd_core.evaluation.io.detections import Detections
from crkd_core.models.decode import SampleDetections, decode_detections
from crkd_core.models.outputs import DetectorOutput
from crkd_core.progress import Progress, Task
from crkd_core.teacher_cache.item_plan import SCORED_VIEW, Item, ItemPlan, detections_part
from crkd_core.teacher_cache.sources import FrozenTeacher
from crkd_core.training.trained import load_trained

_MEASURED_BATCHES = 4


@dataclass(frozen=True)
class Estimate:
    """What an item needs: bytes on disk, and seconds of one process."""

    bytes_per_item: int
    seconds_per_item: float


class Extraction:
    """A frozen teacher with the samples it is to see, each in its stored view."""

    def __init__(
        self, plan: ItemPlan, teacher: Artifact, prepared: PreparedData, config: Config, device: torch.device
    ) -> None:
        trained = load_trained(teacher, device)
        self._plan = plan
        self._config = config
        self._device = device
        self._artifact = teacher
        self._prepared = prepared
        self._grid = config.data.grid.build()
        self._nms = trained.detector_config.head.nms
        self._teacher = FrozenTeacher(trained.detector, self._grid, config.distill)
        self._dataset = SampleDataset(
            prepared,
            plan.tokens,
            config.data,
            trained.detector_config.modalities,
            bev=config.data.augment_student,
            seed=config.distill.targets.seed,
        )

    def measure(self, shard: int, progress: Progress) -> Estimate:
        """Size and time of an item, from the first batches of a shard; the very first, which warms up, is not timed."""
        batches = self._plan.batches(shard)[:_MEASURED_BATCHES]
        sizes, ends = [], [time.monotonic()]
        with progress.task("measuring", total=sum(map(len, batches)), unit="samples") as task:
            for items in self.compute(batches, task):
                sizes += [len(pack_item(tensors)) for tensors in items.values()]
                ends.append(time.monotonic())
        first = 1 if len(batches) > 1 else 0
        timed = sum(len(batch) for batch in batches[first:])
        return Estimate(sum(sizes) // len(sizes), (ends[-1] - ends[first]) / timed)

    def run(self, folder: Path, shards: list[int], done: int, progress: Progress) -> None:
        """Write shards, each with the teacher's detections in :data:`SCORED_VIEW` before it.

        Args:
            done: items of this process that an earlier run wrote.
        """
        total = done + self._plan.count(shards)
        batches = [batch for number in shards for batch in self._plan.batches(number)]
        with progress.task("extract-teacher", total=total, unit="samples", done=done) as task:
            detections: list[tuple[str, SampleDetections]] = []
            for number, results in self._plan.by_shard(shards, self.compute(batches, task, detections)):
                items: dict[ItemKey, dict[str, Tensor]] = {}
                for of_batch in results:
                    items |= of_batch
                if any(key.view == SCORED_VIEW for key in items):
                    write_table(folder / detections_part(number), self._table(detections))
                    detections.clear()
                write_shard(folder / shard_name(number), items)

    def compute(
        self, batches: list[list[Item]], task: Task, detections: list[tuple[str, SampleDetections]] | None = None
    ) -> Iterator[dict[ItemKey, dict[str, Tensor]]]:
        """The items of batches, with their views, as they are stored.

        Args:
            detections: where given, the teacher's detections in the scored view are added to it.

        Raises:
            DamagedArtifactError: the teacher answers with values that are not finite.
        """
        storage = self._config.distill.targets.storage
        train = self._config.train
        options = LoaderOptions(train.workers, train.loader_timeout_s)
        loaded = load_batches(self._dataset, batches, options, self._device)
        for keys, on_host in zip(batches, loaded):
            batch = on_host.to(self._device)
            output = self._teacher.output(batch)
            self._check_finite(output, batch)
            if detections is not None:
                detections += self._detect(output, batch)
            targets = self._teacher.targets(output, batch).split()
            items = {
                ItemKey(self._plan.tokens[index], view): part.encode(storage)
                | self._dataset.view_of(index, view).tensors()
                for (index, view), part in zip(keys, targets, strict=True)
            }
            task.advance(len(batch))
            yield items

    def _detect(self, output: DetectorOutput, batch: Batch) -> list[tuple[str, SampleDetections]]:
        if SCORED_VIEW not in batch.views:
            return []
        detections = decode_detections(output.head, self._grid, self._nms, batch.inputs.bev_augmentation)
        samples = zip(batch.tokens, batch.views, detections, strict=True)
        return [(token, sample) for token, view, sample in samples if view == SCORED_VIEW]

    def _table(self, detections: list[tuple[str, SampleDetections]]) -> pa.Table:
        return Detections.collect(
            (token, sample, self._prepared.global_from_lidar(token)) for token, sample in detections
        ).table

    def _check_finite(self, output: DetectorOutput, batch: Batch) -> None:
        maps = [
            output.features.fused,
            *(m for task in output.head.tasks for m in (task.heatmap_logits, task.regression)),
        ]
        if not torch.stack([bev_map.isfinite().all() for bev_map in maps]).all():
            raise DamagedArtifactError(
                f"the teacher {self._artifact.label} answers with values that are not finite (among the samples "
                f"{', '.join(batch.tokens)}), so nothing can be learned from it; train another one with: "
                f"{command_text('crkd train-teacher --name NEW', self._artifact.root)}"
            )
