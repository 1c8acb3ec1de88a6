"""Which boxes the benchmark looks at: near enough, not known to be without points, and not in a bicycle rack.

Source: ``filter_eval_boxes`` of the nuScenes devkit.
"""

import numpy as np
from jaxtyping import Bool

from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.evaluation.nuscenes.columns import BoxColumns, SplitSamples
from crkd_core.evaluation.nuscenes.joining import equal_pairs
from crkd_core.evaluation.nuscenes.metrics import CLASS_RANGE_M
from crkd_core.evaluation.nuscenes.rounding import inside

_RANGE_M = np.array([CLASS_RANGE_M[name] for name in DETECTION_CLASSES], dtype=np.float64)
_CYCLES = [DETECTION_CLASSES.index(name) for name in ("bicycle", "motorcycle")]


def is_evaluated(boxes: BoxColumns, samples: SplitSamples) -> Bool[np.ndarray, " n"]:
    """Whether each annotated or detected box takes part in the evaluation."""
    kept = (boxes.ego_distance < _RANGE_M[boxes.label]) & (boxes.points != 0)
    cycles = np.flatnonzero(kept & np.isin(boxes.label, _CYCLES))
    for cycle, rack in equal_pairs(boxes.sample[cycles], samples.rack_sample):
        row = cycles[cycle]
        standing = inside(
            boxes.translation[row],
            samples.rack_translation[rack],
            samples.rack_size_wlh[rack],
            samples.rack_rotation[rack],
        )
        kept[row[standing]] = False
    return kept
