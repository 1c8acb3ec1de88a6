"""What a picture shows, read from prepared data and finished evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crkd_core.artifacts.workspace import Artifact
from crkd_core.data.images import read_image
from crkd_core.datasets.nuscenes.lidar import read_lidar
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.evaluation.evaluated_split import is_annotated
from crkd_core.evaluation.io.detections import Detections
from crkd_core.visualization.views import CameraView, LabelledBoxes, ModelView, SampleView

_RADAR_SWEEPS = 1


@dataclass(frozen=True)
class ShownModel:
    """One evaluated model, and what the pictures call it."""

    evaluation: Artifact
    name: str
    detections: Detections

    @property
    def modalities(self) -> tuple[str, ...]:
        """The sensors it sees."""
        return tuple(self.evaluation.manifest.facts["modalities"])

    @property
    def split(self) -> str:
        """Official name of the split that it was evaluated on."""
        return self.evaluation.manifest.facts["split"]

    def above(self, token: str, score: float) -> LabelledBoxes:
        """Its detections of a sample from `score` on."""
        detections = self.detections.sample(token)
        boxes = LabelledBoxes(detections.boxes, detections.labels.numpy(), detections.scores.numpy())
        return boxes.select(detections.scores.numpy() >= score)


def read_sample_view(token: str, models: Sequence[ShownModel], prepared: PreparedData, score: float) -> SampleView:
    """One sample with its sensor data, ground truth and the detections of `models` from `score` on.

    Raises:
        DatasetError: a sensor file is missing or damaged.
    """
    scene = prepared.scene_of(token)
    values, _ = prepared.radar(token, _RADAR_SWEEPS)
    sweeps = prepared.lidar_sweeps(token)
    lidar = np.zeros((0, 4), np.float32)
    if sweeps.paths:
        lidar = read_lidar(prepared.dataroot / sweeps.paths[0], sweeps.columns)[:, :4]
    extent_m = shown_extent_m(models)
    return SampleView(
        token=token,
        scene=scene.name,
        condition=", ".join(text for text in (scene.description, scene.location) if text),
        extent_m=extent_m,
        gt=read_gt(token, prepared, extent_m) if is_annotated(prepared, models[0].split) else None,
        cameras=_cameras(token, prepared),
        lidar=lidar,
        radar=values[:, [0, 1, 4, 5]],
        models=tuple(ModelView(model.name, model.above(token, score), model.modalities) for model in models),
        score=score,
    )


def shown_extent_m(models: Sequence[ShownModel]) -> float:
    """Half side of the square that holds what every model sees."""
    return max(model.evaluation.manifest.facts["extent_m"] for model in models)


def read_gt(token: str, prepared: PreparedData, extent_m: float) -> LabelledBoxes:
    """The annotated objects of a sample that have points, in the square that is shown."""
    annotations = prepared.annotations(token)
    inside = (annotations.boxes.centre[:, :2].abs() <= extent_m).all(dim=1)
    kept = (annotations.has_points & inside).numpy()
    return LabelledBoxes(annotations.boxes, annotations.labels.numpy()).select(kept)


def _cameras(token: str, prepared: PreparedData) -> tuple[CameraView, ...]:
    cameras = prepared.cameras(token)
    return tuple(
        CameraView(
            channel=channel,
            image=read_image(prepared.dataroot / path, tuple(cameras.size_px[index].tolist()))[..., :3].numpy(),
            intrinsics=cameras.intrinsics[index],
            lidar_from_camera=cameras.lidar_from_camera[index],
        )
        for index, (channel, path) in enumerate(zip(cameras.channels, cameras.paths, strict=True))
    )
