"""What reading the tables left out or found odd: the data report shows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TableNotes:
    """Counts of what the tables hold and detection does not use.

    Attributes:
        dropped_boxes: reason, in words, to number of boxes of detected classes that were left out.
        ignored_categories: category name to number of its annotations, for categories that are not detected.
        similar_categories: ignored category that is not nuScenes' own to the nearest name that is.
        ignored_attributes: unknown attribute name to number of annotations that have it.
        similar_attributes: ignored attribute to the nearest name of nuScenes.
        boxes_without_counts: boxes whose numbers of LiDAR and radar points are unknown, and which are therefore never
            left out for having no points.
        oddities: anything else worth a warning, one sentence each.
    """

    dropped_boxes: Mapping[str, int] = field(default_factory=dict)
    ignored_categories: Mapping[str, int] = field(default_factory=dict)
    similar_categories: Mapping[str, str] = field(default_factory=dict)
    ignored_attributes: Mapping[str, int] = field(default_factory=dict)
    similar_attributes: Mapping[str, str] = field(default_factory=dict)
    boxes_without_counts: int = 0
    oddities: tuple[str, ...] = ()
