"""The cases that are committed: which of the recorded ones, and what of each.

``python -m tests.parity.subset DIR`` makes ``tests/parity/data`` from the whole record. No number is changed: a case is
taken whole, or some of its arrays and rows are left out; such a part is called ``NAME_part``.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.parity.cases import DATA, KEY_LISTS, GoldenCase, read_case
from tests.parity.packing import write_key_lists, write_packed
from tests.parity.variations import Arrays, first_pillars, first_sample, first_view

WHOLE = (
    "bev_aug",
    "convfuser",
    "dataset_info",
    "decoder_second_secondfpn",
    "gaussian",
    "head_loss_teachercfg",
    "head_targets",
    "head_targets_small_maxobj",
    "kd_gt_masks",
    "kd_scale_mask",
    "lidar_loading",
    "lr_schedule",
    "neck_generalized_lssfpn",
    "object_paste",
    "radar_encoder",
    "radar_feature_net",
    "radar_feature_net_train",
    "radar_loading",
    "radar_voxelize",
    "results_to_nuscenes",
    "rotated_nms",
    "swin_checkpoint_convert",
)


def leave_out(*prefixes: str) -> Callable[[Arrays], Arrays]:
    """Without the arrays whose names begin so."""
    return lambda arrays: {key: values for key, values in arrays.items() if not key.startswith(prefixes)}


def first_plain_view(arrays: Arrays) -> Arrays:
    """The first sample of the plain view transform, whose samples do not mix: with the gradient of its features."""
    cotangents = {key: arrays[key][:1] for key in ("in/cotangent", "grad/img_feat")}
    return leave_out("out/geom")(first_view(arrays)) | cotangents


def first_depth_view(arrays: Arrays) -> Arrays:
    """The first sample of the depth-aware view transform, from the LiDAR's depth image to the BEV map."""
    return leave_out("out/geom", "out/bev_before", "out/points")(first_view(arrays))


def first_tasks(count: int) -> Callable[[Arrays], Arrays]:
    """The first tasks of a head."""
    behind = tuple(f"task{index}/" for index in range(count, 6)) + tuple(f"task_heads.{i}." for i in range(count, 6))
    return lambda arrays: {key: values for key, values in arrays.items() if not any(name in key for name in behind)}


def small_gradients(arrays: Arrays) -> Arrays:
    """Without the gradients of large weights."""
    return {key: values for key, values in arrays.items() if not key.startswith("grad/param/") or values.size < 250}


def around_masks(arrays: Arrays) -> Arrays:
    """Maps on the masks and next to them; elsewhere, where nothing is compared, the student is 1 and the teacher 0."""
    kept = np.zeros(arrays["in/student"].shape, bool)
    for index in range(len(kept)):
        corners = arrays[f"in/gt_mask{index}"].reshape(-1, 2, 2)
        for (x0, y0), (x1, y1) in zip(corners.min(axis=1) - 2, corners.max(axis=1) + 3):
            kept[index, :, max(x0, 0) : max(x1, 0), max(y0, 0) : max(y1, 0)] = True
    filled = {"in/student": np.float32(1), "in/teacher": np.float32(0)}
    return arrays | {key: np.where(kept, arrays[key], value) for key, value in filled.items()}


def chain(*steps: Callable[[Arrays], Arrays]) -> Callable[[Arrays], Arrays]:
    """One after the other."""

    def cut(arrays: Arrays) -> Arrays:
        for step in steps:
            arrays = step(arrays)
        return arrays

    return cut


# What is cut, and the settings that change with it. `left_out`: beginnings of parameters that no kept output needs.
PARTS: dict[str, tuple[Callable[[Arrays], Arrays], dict]] = {
    "decoder_resnet_lssfpn": (chain(small_gradients, leave_out("out_train/")), {}),
    "depth_lss_transform": (first_depth_view, {"B": 1}),
    "gatedfuser": (chain(small_gradients, leave_out("out_train/")), {}),
    "head_forward": (
        chain(first_sample, first_tasks(1)),
        {"B": 1, "left_out": [f"task_heads.{index}." for index in range(1, 6)]},
    ),
    "head_get_bboxes": (leave_out(*(f"out/decoded/task{index}" for index in (0, 2, 3, 4, 5))), {}),
    "head_loss_soft_a_alone": (first_tasks(1), {}),
    "image_aug": (leave_out(*(f"out/{name}/image" for name in ("train1", "train2", "test0"))), {}),
    "kd_affinity_adapt": (leave_out("grad/student"), {}),
    "kd_lr": (leave_out("out/target"), {}),
    "kd_mask_feat_loss": (around_masks, {}),
    "lss_transform": (chain(first_plain_view, leave_out("grad/param")), {"B": 1}),
    "radar_encoder_calib": (chain(first_pillars, leave_out("out/before_caliber")), {"B": 1}),
    "resnet50_narrow": (
        leave_out("param/layer2", "param/layer3", "param/layer4", "out/1", "out/2", "out/3"),
        {"out_indices": [0], "left_out": ["layer2.", "layer3.", "layer4."]},
    ),
    "sparse_encoder": (chain(small_gradients, leave_out("out/stage0/features")), {}),
    "swin_2stage": (
        leave_out("param/stages.1.", "param/stages.0.downsample", "param/norm1", "out/1"),
        {"out_indices": [0], "left_out": ["stages.1.", "stages.0.downsample."]},
    ),
}


def cut_case(case: GoldenCase) -> GoldenCase:
    """What is committed of a recorded case."""
    if case.name in WHOLE:
        return case
    cut, settings = PARTS[case.name]
    return GoldenCase(f"{case.name}_part", case.config | settings, cut(case.arrays), case.description)


def main(recorded: Path) -> None:
    """Write the committed cases and key lists of a folder with the whole record."""
    DATA.mkdir(exist_ok=True)
    for name in sorted((*WHOLE, *PARTS)):
        case = cut_case(read_case(recorded / "cases" / f"{name}.npz"))
        write_packed(DATA / f"{case.name}.xz", case)
    write_key_lists(
        DATA / KEY_LISTS,
        {
            path.stem: json.loads(path.read_text())
            for path in sorted((recorded / "keys").glob("*.json"))
            if "." not in path.stem and not path.stem.startswith("_")
        },
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
