"""The torch data set: prepared samples in a training view, the test view, or the view of stored teacher targets."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from crkd_core.artifacts.shards import ItemKey, TensorShards
from crkd_core.config.data import BEVAugmentationConfig, DataConfig
from crkd_core.data.augmentation import TEST_VIEW, View, draw_view, stored_view, test_view, without_view
from crkd_core.data.images import read_image, transform_image
from crkd_core.data.points import load_lidar, radar_features, training_boxes
from crkd_core.data.samples import Sample
from crkd_core.datasets.prepared.prepared_data import Cameras, PreparedData
from crkd_core.errors import DamagedArtifactError, DatasetError, StaleArtifactError
from crkd_core.geometry.boxes import Boxes3D


class SampleDataset(Dataset):
    """Samples of a prepared data set by ``(index, view number)``; a plain index means the test view.

    Args:
        tokens: the samples that indices refer to.
        data: grid, images, sweeps and image augmentation.
        modalities: of ``camera``, ``lidar``, ``radar``, what is loaded; files of others are never opened.
        bev: BEV augmentation of training views; None: every view is the test view.
        seed: of the views.
        targets: stored teacher targets: the view is then replayed from the item of the sample and view number, and
            the item's other tensors become :attr:`Sample.targets`.
        mirror_targets: view numbers beyond those stored mean the stored ones mirrored, see :func:`stored_view`.
        require_points: ground truth needs a LiDAR or radar point inside.
        pasting: adds objects of other samples to drawn training views, see
            :class:`crkd_core.data.objects.ObjectPasting`.
    """

    def __init__(
        self,
        prepared: PreparedData,
        tokens: Sequence[str],
        data: DataConfig,
        modalities: Sequence[str],
        *,
        bev: BEVAugmentationConfig | None,
        seed: int,
        targets: TensorShards | None = None,
        mirror_targets: bool = False,
        require_points: bool = True,
        pasting: Callable[[Sample, View], Sample] | None = None,
    ) -> None:
        self.prepared = prepared
        self.tokens = list(tokens)
        self.data = data
        self.modalities = tuple(modalities)
        self._bev = bev
        self._seed = seed
        self._targets = targets
        self._mirror_targets = mirror_targets
        self._require_points = require_points
        self._pasting = pasting

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """A sample in a view.

        Raises:
            DatasetError: a sensor file is missing or damaged.
            StaleArtifactError: the stored targets do not hold this sample and view.
        """
        index, number = key if isinstance(key, tuple) else (key, TEST_VIEW)
        token = self.tokens[index]
        if self._targets is None or number == TEST_VIEW:
            view = self.view_of(index, number)
            sample = self._load(view, token, None)
            return sample if self._pasting is None or number == TEST_VIEW else self._pasting(sample, view)
        stored, mirrored = number, (False, False)
        if self._mirror_targets:
            stored, mirrored = stored_view(number, self._targets.views)
        item = self._read_targets(token, stored)
        try:
            view = View.from_tensors(item).mirrored(*mirrored, number=number)
        except DamagedArtifactError as error:
            raise DamagedArtifactError(f"{error}: {self._targets.artifact.remake_command()}") from None
        return replace(self._load(view, token, without_view(item)), mirrored=mirrored)

    def view_of(self, index: int, number: int) -> View:
        """The view that a sample is given in under a view number, drawn anew (never read from stored targets)."""
        token = self.tokens[index]
        sizes = self.prepared.cameras(token).size_px
        sweeps = len(self.prepared.lidar_sweeps(token).paths)
        if self._bev is None or number == TEST_VIEW:
            return test_view(self.data, sizes, sweeps)
        return draw_view(self.data, self._bev, self._seed, token, number, sizes, sweeps)

    @cached_property
    def classes_of_samples(self) -> list[NDArray[np.int8]]:
        """Classes of the boxes that each sample can be trained on, before augmentation and range."""
        return [self.prepared.classes_in(token, self._require_points) for token in self.tokens]

    def _read_targets(self, token: str, number: int) -> dict[str, Tensor]:
        key = ItemKey(token, number)
        if self._targets is None or key not in self._targets:
            again = f"; {self._targets.artifact.advice()}" if self._targets is not None else ""
            raise StaleArtifactError(f"the stored teacher targets hold no view {number} of sample {token}{again}")
        return self._targets.read(key)

    def _load(self, view: View, token: str, targets: dict[str, Tensor] | None) -> Sample:
        cameras = self.prepared.cameras(token)
        with_camera = "camera" in self.modalities
        boxes, labels = self._ground_truth(view, token)
        return Sample(
            token=token,
            view=view.number,
            images=self._images(cameras, view) if with_camera else None,
            intrinsics=torch.tensor(cameras.intrinsics, dtype=torch.float32) if with_camera else None,
            lidar_from_camera=torch.tensor(cameras.lidar_from_camera, dtype=torch.float32) if with_camera else None,
            image_augmentation=torch.from_numpy(view.image_matrices).float() if with_camera else None,
            lidar=self._lidar(view, token) if "lidar" in self.modalities else None,
            radar=self._radar(view, token) if "radar" in self.modalities else None,
            bev_augmentation=torch.from_numpy(view.augmented_from_lidar).float(),
            boxes=boxes,
            labels=labels,
            targets=targets,
        )

    def _images(self, cameras: Cameras, view: View) -> Tensor:
        if len(view.flip) != len(cameras.paths):
            raise DatasetError(f"a view of {len(view.flip)} cameras was given for a sample with {len(cameras.paths)}.")
        image = self.data.image
        images = torch.empty(len(cameras.paths), 3, image.height_px, image.width_px, dtype=torch.uint8)
        for index, path in enumerate(cameras.paths):
            width, height = cameras.size_px[index].tolist()
            resized_px = view.resized_px[index]
            images[index] = transform_image(
                read_image(self.prepared.dataroot / path, (width, height), resized_px, image.decode),
                resized_px,
                view.crop_px[index],
                (image.width_px, image.height_px),
                bool(view.flip[index]),
                float(view.rotation_deg[index]),
            )
        return images

    def _lidar(self, view: View, token: str) -> Tensor:
        sweeps = self.prepared.lidar_sweeps(token)
        if view.lidar_sweeps.max(initial=0) >= len(sweeps.paths):
            again = f"; {self._targets.artifact.advice()}" if self._targets is not None else ""
            raise StaleArtifactError(
                f"the stored view of sample {token} uses LiDAR sweep {int(view.lidar_sweeps.max())}, and only "
                f"{len(sweeps.paths)} are prepared{again}"
            )
        points = load_lidar(
            self.prepared.dataroot,
            sweeps,
            view.lidar_sweeps,
            view.augmented_from_lidar,
            self.data.lidar,
            self.data.grid,
        )
        return torch.from_numpy(points)

    def _radar(self, view: View, token: str) -> Tensor:
        values, codes = self.prepared.radar(token, self.data.radar.sweeps)
        released = self.data.released_radar_augmentation
        return torch.from_numpy(radar_features(values, codes, view.augmented_from_lidar, self.data.grid, released))

    def _ground_truth(self, view: View, token: str) -> tuple[Boxes3D, Tensor]:
        annotations = self.prepared.annotations(token)
        return training_boxes(annotations, view.augmented_from_lidar, self.data.grid, self._require_points)
