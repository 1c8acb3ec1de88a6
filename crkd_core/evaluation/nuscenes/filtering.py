"""Which boxes the benchmark looks at: near enough, not known to be without points, and not in a bicycle rack.

Which classes are left out in which annotated things is the description's; bicycle racks are what nuScenes has.

Source: ``filter_eval_boxes`` of the nuScenes devkit.
"""

import numpy as np
from jaxtyping import Bool

from crkd_core.evaluation.nuscenes.columns import BoxColumns, SplitSamples
from crkd_core.evaluation.nuscenes.joining import equal_pairs
from crkd_core.evaluation.nuscenes.rounding import inside


def is_evaluated(boxes: BoxColumns, samples: SplitSamples) -> Bool[np.ndarray, " n"]:
    """Whether each annotated or detected box takes part in the evaluation."""
    description = samples.description
    range_m = np.array([entry.range_m for entry in description.classes.values()], dtype=np.float64)
    kept = (boxes.ego_distance < range_m[boxes.label]) & (boxes.points != 0)
    ignored = [description.class_names.index(name) for name in description.ignored_inside.classes]
    rows = np.flatnonzero(kept & np.isin(boxes.label, ignored))
    for index, rack in equal_pairs(boxes.sample[rows], samples.rack_sample):
        row = rows[index]
        standing = inside(
            boxes.translation[row],
            samples.rack_translation[rack],
            samples.rack_size_wlh[rack],
            samples.rack_rotation[rack],
        )
        kept[row[standing]] = False
    return kept
