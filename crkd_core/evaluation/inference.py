"""Detections of a trained detector on a split, in shards that a killed run continues from and processes share out."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from crkd_core.artifacts.run_config import RunConfiguration
from crkd_core.artifacts.shard_plan import ShardPlan
from crkd_core.artifacts.tables import write_table
from crkd_core.config.models import NMSConfig
from crkd_core.cores import note_loaders
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.loader import LoaderOptions, load_batches
from crkd_core.data.samples import Batch
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.io.detections import Detections, read_parts
from crkd_core.evaluation.precision import FULL_PRECISION, Precision
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.autocast import autocast, autocast_type
from crkd_core.models.decode import SampleDetections, decode_detections
from crkd_core.progress import Progress, format_count

PARTS = "detections-*.parquet"
"""File names of detections that only an unfinished evaluation has."""
# Every shard is flushed to disk; of more of them, none would hold a second's work of a fast GPU.
_MOST_SHARDS = 500


@dataclass(frozen=True)
class InferenceOptions:
    """How a detector is run on a split: how boxes are selected, and how samples are loaded.

    Attributes:
        workers: processes that load samples.
        precision: number type that the detector computes in.
    """

    nms: NMSConfig
    device: torch.device
    batch_size: int
    workers: int
    precision: Precision = FULL_PRECISION


class DetectionPlan(ShardPlan[int]):
    """Samples of a split in shards of whole batches.

    What may change a detection in its last digits (the batch it is computed in, the kind of device) is in the names of
    the files: a run that is continued with others makes shards of its own.

    Args:
        samples: number of samples.
    """

    def __init__(self, samples: int, batch_size: int, device: torch.device) -> None:
        batches_per_shard = -(-samples // (batch_size * _MOST_SHARDS))
        super().__init__(list(range(samples)), max(batches_per_shard, 1) * batch_size, batch_size)
        self._kind = f"{device.type}-{batch_size}"

    def files(self, shard: int) -> list[str]:
        """The table of the shard's detections."""
        return [PARTS.replace("*", f"{self._kind}-{shard:05d}")]


class SplitDetection:
    """A trained detector's detections on all samples of a split.

    Args:
        configuration: of the detector's run.
        load: gives the detector, on the device; called only where there is something to detect.
    """

    def __init__(
        self,
        configuration: RunConfiguration,
        samples: EvaluatedSplit,
        options: InferenceOptions,
        load: Callable[[], nn.Module],
    ) -> None:
        self.plan = DetectionPlan(len(samples.tokens), options.batch_size, options.device)
        self._configuration = configuration
        self._samples = samples
        self._options = options
        self._load = load

    def fill(self, folder: Path, rank: int, size: int, description: str, progress: Progress) -> None:
        """Write the missing shards that are the share of the process of a rank, of `size` processes.

        Args:
            description: for the progress report.

        Raises:
            DatasetError: a sensor file is missing or damaged.
            DamagedArtifactError: the weights do not belong to the configuration.
            WriteError: the folder cannot be written.
        """
        own = self.plan.missing(folder, rank, size)
        self._tell_what_is_kept(folder, progress)
        if not own:
            return
        pose = self._samples.prepared.global_from_lidar
        total = self.plan.count(self.plan.share(rank, size))
        done = total - self.plan.count(own)
        with progress.task(description, total=total, unit="samples", done=done) as task, _even_threads():
            for shard, results in self.plan.by_shard(own, self._detect(own, progress)):
                detections = [(token, sample, pose(token)) for of_batch in results for token, sample in of_batch]
                for file in self.plan.files(shard):
                    write_table(folder / file, Detections.collect(detections).table)
                task.advance(len(detections))

    def read(self, folder: Path) -> Detections:
        """The detections of all shards.

        Raises:
            DamagedArtifactError: one cannot be read.
        """
        files = [file for shard in range(len(self.plan.shards)) for file in self.plan.files(shard)]
        return Detections(read_parts(folder, files)).in_order(self._samples.tokens)

    def _detect(self, shards: list[int], progress: Progress) -> Iterator[list[tuple[str, SampleDetections]]]:
        config, options = self._configuration.config, self._options
        tokens, modalities = list(self._samples.tokens), self._configuration.detector.modalities
        dataset = SampleDataset(
            self._samples.prepared, tokens, config.data, modalities, bev=None, seed=config.train.seed
        )
        note_loaders(options.workers, progress)
        loading = LoaderOptions(options.workers, option="--workers ", timeout_option=None)
        batches = [batch for shard in shards for batch in self.plan.batches(shard)]
        loaded = load_batches(dataset, batches, loading, options.device)
        detector, grid = self._load(), config.data.grid.build()
        return detect(detector, loaded, grid, options.nms, options.device, options.precision)

    def _tell_what_is_kept(self, folder: Path, progress: Progress) -> None:
        there = {path.name for path in folder.iterdir() if fnmatchcase(path.name, PARTS)}
        shards = range(len(self.plan.shards))
        kept = self.plan.count(shard for shard in shards if there.issuperset(self.plan.files(shard)))
        if kept:
            number = format_count(len(self._samples.tokens), "sample")
            progress.message(f"continuing an evaluation that was stopped: {kept} of {number} are there")
        elif there:
            progress.message(
                "an evaluation with another --batch-size or device was stopped here; the samples it finished are "
                "detected again"
            )


def detect(
    detector: nn.Module,
    loader: Iterable[Batch],
    grid: BEVGrid,
    nms: NMSConfig,
    device: torch.device,
    precision: Precision,
) -> Iterator[list[tuple[str, SampleDetections]]]:
    """Detections of the samples of every batch, on the CPU, in the model frame without augmentation.

    The detector is put into evaluation mode and computes in float32 unless `precision` asks for autocast; boxes are
    decoded in float32 in any case.

    Args:
        loader: gives batches in the order in which results are wanted.
        grid: the detector's BEV grid.
        nms: how boxes are selected.
    """
    detector.eval()
    dtype = autocast_type(precision, device)
    for batch in loader:
        # Not around the `yield`: the mode would leak into the code that consumes the results.
        with torch.inference_mode(), autocast(dtype, device):
            moved = batch.to(device)
            detections = decode_detections(detector(moved.inputs).head, grid, nms, moved.inputs.bev_augmentation)
        yield list(zip(batch.tokens, map(_on_cpu, detections), strict=True))


@contextmanager
def _even_threads() -> Iterator[None]:
    """Compute on a power of two of CPU threads, so that their number, and that of processes, changes no digit.

    Threads share out a tensor, and what vector instructions leave of a thread's part is computed by other code, which
    rounds sigmoid and softmax differently. Parts of 2, 4, 8 threads leave nothing over in maps of usual sizes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 << (threads.bit_length() - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _on_cpu(detections: SampleDetections) -> SampleDetections:
    # Tensors of inference mode cannot be used in ordinary code; a copy can.
    boxes, scores, labels = (
        values.cpu().clone() for values in (detections.boxes.tensor, detections.scores, detections.labels)
    )
    return SampleDetections(Boxes3D(boxes), scores, labels)
