"""Parts of recorded cases whose results follow from the recorded ones: single samples, nothing there at all."""

from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]
_TRAINING = ("out_train", "grad", "in/cotangent")


def first_sample(arrays: Arrays) -> Arrays:
    """The first sample alone, of arrays that have one row a sample; without training, which mixes samples."""
    kept = {key: value for key, value in arrays.items() if not key.startswith(_TRAINING)}
    return {key: value if key.startswith("param") or not value.ndim else value[:1] for key, value in kept.items()}


def first_view(arrays: Arrays) -> Arrays:
    """The first sample alone of a view transform, whose points are listed by sample."""
    listed = {key: value for key, value in arrays.items() if "points0" in key}
    return {key: value for key, value in first_sample(arrays).items() if "points" not in key} | listed


def first_pillars(arrays: Arrays) -> Arrays:
    """The pillars of the first sample alone."""
    first = arrays["in/coords"][:, 0] == 0
    named = ("in/feats", "in/coords", "in/sizes", "out/feats_after_call")
    return {**first_sample(arrays), **{key: arrays[key][first] for key in named if key in arrays}}


def without(*suffixes: str) -> Callable[[Arrays], Arrays]:
    """Without any row in the arrays of these names."""
    return lambda arrays: {key: v[:0] if key.endswith(suffixes) else v for key, v in arrays.items()}


def first_image(arrays: Arrays) -> Arrays:
    """The first sample alone, where what belongs to a sample is named after it."""
    kept = {key: value for key, value in arrays.items() if not (key.startswith("in/") and key.endswith("1"))}
    return {key: value[:1] if key.startswith("out/") else value for key, value in kept.items()}


def empty_second_image(arrays: Arrays) -> Arrays:
    """No box in the second sample: no target either."""
    emptied = {key: value.copy() for key, value in without("in/boxes1", "in/labels1")(arrays).items()}
    for key, value in emptied.items():
        if key.startswith("out/"):
            value[1] = 0
    return emptied


def no_second_masks(arrays: Arrays) -> Arrays:
    """No box in the second sample: nothing is painted."""
    emptied = without("boxes1", "boxes_scaled1", "gt_mask1", "gt_mask_scaled1", "corners1")(arrays)
    return {
        key: np.concatenate([value[:1], 0 * value[1:]]) if "box_mask" in key else value
        for key, value in emptied.items()
    }


def key_frame_and_empty_sweeps(arrays: Arrays) -> Arrays:
    """Sweeps without points leave the key frame."""
    emptied = without("in/sweep1/raw", "in/sweep2/raw")(arrays)
    return {**emptied, "out/points": arrays["out/points"][: len(arrays["in/sweep0/raw"])]}


def nothing_likely(arrays: Arrays) -> Arrays:
    """Heatmaps far below the threshold hold no box."""
    unlikely = {key: value - 40 if key.endswith("/heatmap") else value for key, value in arrays.items()}
    return {key: value[:0] if key.startswith("out/") else value for key, value in unlikely.items()}


def no_second_cloud(arrays: Arrays) -> Arrays:
    """A last sample without points, which the published code leaves out of the batch."""
    kept = {key: value for key, value in without("in/points1")(arrays).items() if not key.startswith(_TRAINING)}
    first = arrays["out/coords_bxyz"][:, 0] == 0
    for key in ("out/voxel_sum_input_mean", "out/coords_bxyz", "out/sizes"):
        kept[key] = arrays[key][first]
    for key in [key for key in arrays if key.endswith("/indices")]:
        first = arrays[key][:, 0] == 0
        features = key.replace("indices", "features")
        kept |= {key: arrays[key][first], features: arrays[features][first]}
    return {**kept, "out/bev": arrays["out/bev"][:1]}


def no_ground_truth(arrays: Arrays) -> Arrays:
    """Nothing is there, and nothing is drawn."""
    kept = {key: value for key, value in arrays.items() if "draw" not in key}
    return kept | {f"out/{name}": arrays[f"in/{name}"] for name in ("points", "gt_boxes", "gt_labels")}


def no_detections(arrays: Arrays) -> Arrays:
    """Nothing was detected: nothing is written."""
    of_boxes = ("in/boxes", "in/scores", "in/labels")
    return {key: value[:0] if key.startswith(("out/", *of_boxes)) else value for key, value in arrays.items()}


def no_boxes_to_suppress(arrays: Arrays) -> Arrays:
    """No pair overlaps, and nothing is kept."""
    emptied = {key: value[:0] for key, value in arrays.items()}
    return {**emptied, "out/iou": np.zeros((0, 0), np.float32)}
