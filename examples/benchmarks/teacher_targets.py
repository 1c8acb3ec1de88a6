"""Stored teacher targets: size of every part, what rounding does to losses and gradients, and reading time.

At the sizes of a preset, on scenes of 45 boxes with the statistics of trained detectors. Sizes are those on disk, after
lossless compression; "raw" is what the losses compare, as dense fp16 maps. Deviations are relative, the worst of the
scenes: of each weighted loss term, and of its gradient by everything the student computes (norm of the difference to
norm), without RelD's adapters, whose first weights would hide it. Reading is from a warm disk cache: the shard's item
to tensors, and those to float32; times are the fastest of the repeats.

    python examples/benchmarks/teacher_targets.py [--preset paper-r50] [--scenes 4] [--image A_CAMERA_FILE.jpg]
"""

import argparse
import io
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measuring import fastest_seconds, show
from PIL import Image
from realistic_scenes import Scene, make_scene
from torch import Tensor

from crkd_core.artifacts.shards import ItemKey, TensorShards, pack_item, shard_name, write_index, write_shard
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.loading import load_config
from crkd_core.config.schema import Config
from crkd_core.distillation.losses import build_targets, decode_targets
from crkd_core.distillation.objective import DistillationObjective, build_objective
from crkd_core.distillation.storage import Storage
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.models.outputs import DetectorOutput

STORAGES: tuple[Storage, ...] = ("fp32", "fp16", "int8")
PARTS = {"csrd": "CSRD", "msfd.camera": "MSFD camera", "msfd.fused": "MSFD fused", "reld": "RelD", "respd": "RespD"}


def sizes(targets: list[TeacherTargets], scenes: list[Scene]) -> list[list[str]]:
    """Rows of mean bytes by part."""
    rows = []
    for prefix, title in PARTS.items():
        stored = [np.mean([_packed_size(t, storage, prefix) for t in targets]) for storage in STORAGES]
        rows.append([title, *(f"{size / 1e6:.3f}" for size in [_raw_size(scenes[0].teacher, prefix), *stored])])
    totals = [np.mean([len(pack_item(t.encode(storage))) for t in targets]) for storage in STORAGES]
    raw = sum(_raw_size(scenes[0].teacher, prefix) for prefix in PARTS)
    rows.append(["all", *(f"{size / 1e6:.3f}" for size in [raw, *totals])])
    return rows


def _packed_size(targets: TeacherTargets, storage: Storage, prefix: str) -> int:
    tensors = targets.encode(storage)
    return len(pack_item({name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}))


def _raw_size(teacher: DetectorOutput, prefix: str) -> int:
    features, tasks = teacher.features, teacher.head.tasks
    cells = features.fused.shape[2] * features.fused.shape[3]
    heatmaps = sum(task.heatmap_logits.shape[1] for task in tasks)
    # The fused map serves MSFD and RelD, the heatmaps CSRD and RespD: each is counted once.
    channels = {
        "csrd": 0,
        "msfd.camera": features.gated_camera.shape[1],
        "msfd.fused": features.fused.shape[1],
        "reld": 0,
        "respd": heatmaps + 10 * len(tasks),
    }
    return 2 * cells * channels[prefix]


def deviations(targets: list[TeacherTargets], scenes: list[Scene], config: Config, storage: Storage) -> dict[str, list]:
    """Term to its worst relative deviation: of the loss, of the gradient."""
    reld = config.distill.reld.model_copy(update={"adapter": False})
    distill = config.distill.model_copy(update={"reld": reld})
    objective = build_objective(distill, config.data.grid.build(), config.teacher.fuser.channels)
    worst: dict[str, list] = {}
    for scene, live in zip(scenes, targets, strict=True):
        stored = decode_targets(live.encode(storage))
        expected, actual = (_losses_and_gradients(objective, scene.student, part) for part in (live, stored))
        for term, (loss, gradient) in expected.items():
            off = [abs(float(actual[term][0] / loss) - 1), float((actual[term][1] - gradient).norm() / gradient.norm())]
            worst[term] = np.maximum(worst.get(term, [0.0, 0.0]), off).tolist()
    return worst


def _losses_and_gradients(
    objective: DistillationObjective, student: DetectorOutput, targets: TeacherTargets
) -> dict[str, tuple[Tensor, Tensor]]:
    features = student.features
    maps = [features.gated_camera, features.fused, features.radar_activation]
    maps += [value for task in student.head.tasks for value in vars(task).values()]
    leaves = [*(bev_map.requires_grad_() for bev_map in maps), *objective.parameters()]
    losses = objective(student, targets)
    losses["all"] = torch.stack(list(losses.values())).sum()
    results = {}
    for term, loss in losses.items():
        gradients = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
        results[term] = (loss.detach(), torch.cat([g.flatten() for g in gradients if g is not None]))
    return results


def reading(targets: list[TeacherTargets], storage: Storage, folder: Path, repeats: int) -> list[float]:
    """Seconds to read an item, and to make float32 targets of it."""
    request = ArtifactRequest("extract-teacher", storage, command="benchmark", settings={})
    with Workspace(folder).write(request) as writer:
        encoded = {ItemKey(f"{index:032x}"): part.encode(storage) for index, part in enumerate(targets)}
        write_shard(writer.path / shard_name(0), encoded)
        write_index(writer.path, [shard_name(0)])
        shards = TensorShards(writer.finish())
    keys = shards.keys()
    items = [shards.read(key) for key in keys]
    read = [fastest_seconds(partial(shards.read, key), repeats) for key in keys]
    decode = [fastest_seconds(partial(decode_targets, item), repeats) for item in items]
    return [float(np.mean(read)), float(np.mean(decode))]


def decoding(image: Path | None, repeats: int) -> float:
    """Seconds to decode a 1600 x 900 JPEG: the file, or smooth noise of the same size."""
    if image is not None:
        content = image.read_bytes()
    else:
        coarse = np.random.default_rng(0).normal(128, 40, (90, 160, 3)).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(coarse).resize((1600, 900), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
        content = stream.getvalue()
    return fastest_seconds(lambda: Image.open(io.BytesIO(content)).load(), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper-r50", help="configuration whose sizes are taken")
    parser.add_argument("--scenes", type=int, default=4, help="scenes to measure on")
    parser.add_argument("--repeats", type=int, default=20, help="timed calls, of which the fastest counts")
    parser.add_argument("--image", type=Path, help="camera file to decode for comparison")
    options = parser.parse_args()
    config = load_config(options.preset)
    grid = config.data.grid.build()
    scenes = [make_scene(seed, config) for seed in range(options.scenes)]
    targets = [build_targets(scene.teacher, [scene.boxes], grid, config.distill) for scene in scenes]

    cells = np.mean([len(part.parts["msfd.fused"].indices) for part in targets])
    title = f"size of a sample and view (MB), {options.preset}: {len(scenes[0].boxes)} boxes, {cells:.0f} mask cells"
    show(title, ["part", "raw fp16", *STORAGES], sizes(targets, scenes))

    worst = {storage: deviations(targets, scenes, config, storage) for storage in STORAGES}
    columns = [f"{storage} {what}" for storage in STORAGES for what in ("loss", "gradient")]
    rows = [
        [term, *(f"{value:.1e}" for storage in STORAGES for value in worst[storage][term])] for term in worst["fp32"]
    ]
    show(f"relative deviation from the live teacher, worst of {len(scenes)} scenes", ["term", *columns], rows)

    with tempfile.TemporaryDirectory() as folder:
        times = {storage: reading(targets, storage, Path(folder), options.repeats) for storage in STORAGES}
    rows = [
        [storage, f"{1e3 * read:.2f}", f"{1e3 * decode:.2f}", f"{1e3 * (read + decode):.2f}"]
        for storage, (read, decode) in times.items()
    ]
    rows.append(["one camera image, 1600 x 900", "", f"{1e3 * decoding(options.image, options.repeats):.2f}", ""])
    show(f"time (ms), {torch.get_num_threads()} threads", ["sample and view", "read", "decode", "both"], rows)


if __name__ == "__main__":
    main()
