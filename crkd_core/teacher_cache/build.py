"""Building a cache of teacher targets: what is still missing, its announcement, and what is known once it is there."""

import shutil
from pathlib import Path
from typing import Any

import torch

from crkd_core.artifacts.described import description_settings
from crkd_core.artifacts.shards import shard_name, write_index
from crkd_core.artifacts.workspace import Artifact
from crkd_core.artifacts.writer import ArtifactWriter
from crkd_core.config.schema import Config
from crkd_core.cores import note_loaders
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.same_data_set import configured_for_data, require_same_data_set
from crkd_core.datasets.prepared.source import split_settings
from crkd_core.errors import WriteError
from crkd_core.progress import Progress, format_count, format_seconds, format_size
from crkd_core.teacher_cache.extraction import Estimate, Extraction
from crkd_core.teacher_cache.item_plan import PARTS, ItemPlan
from crkd_core.teacher_cache.teacher_score import score_teacher, warn_of_poor_teacher
from crkd_core.teacher_cache.verification import Verification, verify_targets
from crkd_core.training.distributed import ProcessGroup


class CacheBuild:
    """Targets of one teacher in the making; the teacher is loaded at most once, and only if it is needed.

    Attributes:
        plan: the items.
    """

    def __init__(self, config: Config, teacher: Artifact, prepared: PreparedData, split: str) -> None:
        """Raises ConfigError, or StaleArtifactError, where configuration or teacher are not of these data."""
        require_same_data_set(teacher, prepared)
        self._config = configured_for_data(config, prepared)
        self.plan = ItemPlan(prepared.tokens(split), config)
        self._teacher = teacher
        self._prepared = prepared
        self._split = split
        self._loaded: Extraction | None = None

    @property
    def data_settings(self) -> dict[str, Any]:
        """What the settings of the targets say of the data."""
        return split_settings(self._prepared, self._split) | description_settings(self._prepared.description)

    def _extraction(self, device: torch.device) -> Extraction:
        if self._loaded is None:
            self._loaded = Extraction(self.plan, self._teacher, self._prepared, self._config, device)
        return self._loaded

    def estimate(self, device: torch.device, progress: Progress) -> Estimate:
        """Size and time of an item, from a few batches; nothing is written."""
        return self._extraction(device).measure(0, progress)

    def fill(self, folder: Path, processes: ProcessGroup, progress: Progress) -> None:
        """Write the missing shards, this process its share; returns when all processes have.

        Raises:
            WriteError: they will not fit on the disk.
            DamagedArtifactError: the teacher answers with values that are not finite.
        """
        own = self.plan.missing(folder, processes.rank, processes.size)
        if own:
            self._fill_own(own, folder, processes, progress)
        processes.barrier()

    def _fill_own(self, own: list[int], folder: Path, processes: ProcessGroup, progress: Progress) -> None:
        extraction = self._extraction(processes.device)
        note_loaders(self._config.train.workers, progress)
        if processes.is_first:
            self._announce(extraction.measure(own[0], progress), folder, processes.size, progress)
        done = self.plan.count(self.plan.share(processes.rank, processes.size)) - self.plan.count(own)
        extraction.run(folder, own, done, progress)

    def _announce(self, estimate: Estimate, folder: Path, processes: int, progress: Progress) -> None:
        missing = self.plan.missing(folder)
        items = self.plan.count(missing)
        needed, free = items * estimate.bytes_per_item, shutil.disk_usage(folder).free
        if needed > free:
            raise WriteError(
                f"the targets need about {format_size(needed)} more, and the disk of {folder} has {format_size(free)} "
                "left; free some space, choose another --workspace, or store less (distill.targets.storage=int8, or "
                "fewer distill.targets.views)."
            )
        seconds = items * estimate.seconds_per_item / processes
        already = len(self.plan) - items
        samples, views = format_count(len(self.plan.tokens), "sample"), format_count(self.plan.views, "view")
        kept = f", {already} already there" if already else ""
        progress.message(
            f"writing {format_count(items, 'item')} ({samples} x {views}{kept}) in "
            f"{format_count(len(missing), 'shard')} to {folder}: about {format_size(needed)} "
            f"({format_size(estimate.bytes_per_item)} each), in about {format_seconds(seconds)} on "
            f"{format_count(processes, 'process', 'processes')}"
        )

    def finish(self, writer: ArtifactWriter, progress: Progress) -> Artifact:
        """Index the shards and score the teacher."""
        shards = [shard_name(number) for number in range(len(self.plan.shards))]
        items = write_index(writer.path, shards)
        scores = score_teacher(writer.path, self.plan, self._prepared, progress)
        size = sum((writer.path / shard).stat().st_size for shard in shards)
        # Targets fit whatever was prepared from these tables, whichever of its files are at hand.
        of_tables = {"tables_sha256": self._prepared.artifact.manifest.settings["tables_sha256"]}
        counts = {"items": items, "views": self.plan.views, "bytes": size, "shards": len(shards)}
        artifact = writer.finish({**counts, **scores, **of_tables}, scratch=(PARTS,))
        warn_of_poor_teacher(artifact, progress)
        return artifact

    def verify(self, targets: Artifact, count: int, device: torch.device, progress: Progress) -> Verification:
        """Compare some stored items with the live teacher, see :func:`verify_targets`."""
        return verify_targets(targets, self.plan, self._extraction(device), count, progress)
