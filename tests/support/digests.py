"""Digests of what must not depend on the installed versions: a simulated world, prepared data, samples and metrics.

    python -m tests.support.digests [--files]

`tests/run_pythons.sh` compares what this prints on every Python. Parquet files are digested by their values, as their
bytes name the library that wrote them. Images are not compared: codecs may round otherwise from version to version.
"""

import argparse
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.loading import load_config
from crkd_core.data.dataset import SampleDataset
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.evaluation.io.detections import to_global
from crkd_core.evaluation.nuscenes.scoring import score_detections
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import PrepareRequest, prepare
from crkd_core.stages.simulate import SimulateRequest, simulate
from tests.support.poses import pose
from tests.support.random_world import WorldCase, prepare_world, write_random_world

WORLD = SimulationConfig(
    train_scenes=1,
    val_scenes=1,
    samples_per_scene=2,
    image_width=160,
    image_height=90,
    lidar_azimuth_steps=180,
    lidar_sweeps_per_key_frame=2,
    radar_sweeps_per_key_frame=2,
    camera_sweeps_per_key_frame=0,
)
SEEDS = range(3)


def main() -> None:
    """Print a line for every digest, or with ``--files`` one for every file and table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", action="store_true", help="every file of the world too, images included")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crkd-digests-") as scratch:
        for name, digest in digests(Path(scratch), options.files):
            print(f"{digest}  {name}", flush=True)


def digests(scratch: Path, each_file: bool) -> Iterator[tuple[str, str]]:
    """(name, SHA-256) pairs."""
    progress, root = SilentProgress(), scratch / "world"
    simulate(SimulateRequest(out=root, config=WORLD, processes=1), progress)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    kinds = {"world: tables": ".json", "world: LiDAR sweeps": ".bin", "world: radar sweeps": ".pcd"}
    for name, suffix in kinds.items():
        yield name, _digest(*(path.read_bytes() for path in files if path.suffix == suffix))
    if each_file:
        yield from ((str(path.relative_to(root)), _digest(path.read_bytes())) for path in files)
    artifact = prepare(PrepareRequest(nuscenes=root), Workspace(scratch / "workspace"), progress).artifact
    tables = {path.name: _values(pq.read_table(path)) for path in sorted(artifact.path.rglob("*.parquet"))}
    shards = (path.read_bytes() for path in sorted(artifact.path.rglob("*.safetensors")))
    yield "prepared data", _digest(*tables.values(), *shards)
    if each_file:
        yield from ((name, _digest(values)) for name, values in tables.items())
    yield "training samples", _digest(*_samples(PreparedData(artifact)))
    yield "boxes in the global frame", _digest(*_global_boxes())
    yield "metrics", _digest(*(_metrics(scratch / f"random{seed}", seed) for seed in SEEDS))


def _samples(prepared: PreparedData) -> Iterator[bytes]:
    config = load_config("tiny")
    tokens = prepared.tokens("mini_train")
    dataset = SampleDataset(
        prepared, tokens, config.data, ("lidar", "radar"), bev=config.data.augment_teacher, seed=0, require_points=False
    )
    for index in range(len(tokens)):
        sample = dataset[index, 1]
        for tensor in (sample.lidar, sample.radar, sample.boxes.tensor, sample.labels, sample.bev_augmentation):
            yield tensor.numpy().tobytes()


def _global_boxes() -> Iterator[bytes]:
    draw = random.Random(0)
    boxes = Boxes3D(torch.tensor([[draw.uniform(-3.0, 3.0) for _ in range(9)] for _ in range(500)]))
    for _ in range(5):
        quaternion = [draw.gauss(0.0, 1.0) for _ in range(4)]
        there = to_global(boxes, pose(quaternion, [draw.uniform(-99.0, 99.0) for _ in range(3)]))
        for values in (there.translation, there.rotation_wxyz, there.velocity):
            yield values.tobytes()


def _metrics(root: Path, seed: int) -> bytes:
    detections = write_random_world(root, WorldCase(seed))
    prepared = prepare_world(root, root / "prepared")
    metrics = score_detections(prepared, [f"sample{frame}" for frame in range(WorldCase.frames)], detections).metrics
    return json.dumps(metrics.to_json()).encode()


def _values(table: pa.Table) -> bytes:
    return json.dumps(table.to_pydict(), default=bytes.hex).encode()


def _digest(*contents: bytes) -> str:
    whole = hashlib.sha256()
    for content in contents:
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()


if __name__ == "__main__":
    main()
