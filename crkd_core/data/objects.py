"""The objects that teacher training pastes into samples: cut once from training samples, drawn anew for every view."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from crkd_core.config.data import DataConfig
from crkd_core.data.augmentation import View, epoch_of_view, random_generator
from crkd_core.data.pasting import LidarObjects, cut_objects, draw_objects, missing_objects, paste_objects
from crkd_core.data.points import centres_in_range, in_lidar_range, load_lidar, place_points, training_boxes
from crkd_core.data.samples import Sample
from crkd_core.data.sampling import class_balanced_indices
from crkd_core.datasets.prepared.prepared_data import PreparedData


class ObjectPasting:
    """Pastes objects of other samples into LiDAR samples, see :class:`crkd_core.config.data.PasteConfig`.

    What is pasted is a pure function of the seed, the sample's token and the number of the view. Unlike the released
    code, which keeps all objects of the data set in files, the objects come from a number of samples, drawn so that
    all classes are among them, and stay in memory.
    """

    def __init__(self, prepared: PreparedData, tokens: Sequence[str], data: DataConfig, seed: int) -> None:
        self._prepared = prepared
        self._tokens = list(tokens)
        self._data = data
        self._seed = seed

    @cached_property
    def objects(self) -> LidarObjects:
        """All objects there are to paste, in the LiDAR frames of their samples; reads them when first asked for.

        Raises:
            DatasetError: a LiDAR file is missing or damaged.
        """
        objects = LidarObjects.cat([self._cut(token) for token in self._sources()])
        return objects.with_points(self._data.paste_teacher.min_points)

    def __call__(self, sample: Sample, view: View) -> Sample:
        """The sample with what its view pastes; unchanged in epochs that paste nothing.

        Args:
            sample: with LiDAR points, already augmented by `view`.
        """
        paste = self._data.paste_teacher
        if sample.lidar is None or epoch_of_view(view.number) >= paste.epochs:
            return sample
        generator = random_generator(self._seed, sample.token, view.number, "paste")
        missing = missing_objects(sample.labels, paste.objects, self._prepared.description.class_names)
        draws = draw_objects(self.objects.labels.numpy(), missing, generator)
        points, boxes, labels = paste_objects(
            sample.lidar.numpy(), sample.boxes, sample.labels, [self._placed(drawn, view) for drawn in draws]
        )
        return replace(sample, lidar=torch.from_numpy(points), boxes=boxes, labels=labels)

    def _placed(self, drawn: torch.Tensor, view: View) -> LidarObjects:
        """Objects where the view's augmentation moves them, without what it moves out of range."""
        objects, grid = self.objects[drawn], self._data.grid
        boxes = objects.boxes.augmented(torch.from_numpy(view.augmented_from_lidar)).wrapped()
        moved = [place_points(points, view.augmented_from_lidar) for points in objects.points]
        points = [part[in_lidar_range(part, grid)] for part in moved]
        return LidarObjects(boxes, objects.labels, points)[centres_in_range(boxes, grid)]

    def _sources(self) -> list[str]:
        """Samples to cut from, rare classes first, then as they come."""
        generator = random_generator(self._seed, "", 0, "objects")
        classes = [self._prepared.classes_in(token) for token in self._tokens]
        balanced = class_balanced_indices(classes, len(self._prepared.description.classes), generator)
        generator.shuffle(balanced)
        order = dict.fromkeys([*balanced.tolist(), *generator.permutation(len(self._tokens)).tolist()])
        return [self._tokens[index] for index in list(order)[: self._data.paste_teacher.samples]]

    def _cut(self, token: str) -> LidarObjects:
        data, sweeps = self._data, self._prepared.lidar_sweeps(token)
        nearest = np.arange(min(data.lidar.sweeps, len(sweeps)))
        points = load_lidar(self._prepared.dataroot, sweeps, nearest, np.eye(4), data.lidar, data.grid)
        boxes, labels = training_boxes(self._prepared.annotations(token), np.eye(4), data.grid, require_points=True)
        return cut_objects(torch.from_numpy(points), boxes, labels)
