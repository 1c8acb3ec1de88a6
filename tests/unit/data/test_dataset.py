"""The data set, its views, stored targets, and the order of training."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from crkd_core.artifacts.shards import ItemKey, TensorShards, shard_name, write_index, write_shard
from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.data import BEVAugmentationConfig, DataConfig, GridConfig
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.points import training_boxes
from crkd_core.data.samples import collate
from crkd_core.data.sampling import TrainingSampler, class_balanced_indices
from crkd_core.datasets.prepared.prepared_data import Annotations, PreparedData
from crkd_core.errors import DamagedArtifactError, DatasetError, StaleArtifactError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import PrepareRequest, prepare
from tests.support.described import NUSCENES
from tests.support.nuscenes_factory import write_folder

DATA = DataConfig.model_validate(
    {"image": {"height_px": 32, "width_px": 64, "train_resize": [0.04, 0.05], "test_resize": 0.04}}
)
BEV = BEVAugmentationConfig(rotation_deg=(-20.0, 20.0))
MODALITIES = ("camera", "lidar", "radar")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    folder = write_folder(root / "nuscenes", scenes={"scene-0061": 3, "scene-0103": 1})
    workspace = Workspace(root / "ws")
    result = prepare(PrepareRequest(folder.root), workspace, SilentProgress())
    return workspace, PreparedData(result.artifact)


def dataset(prepared, modalities=MODALITIES, bev=BEV, seed=0, **options):
    return SampleDataset(prepared, prepared.tokens("train"), DATA, modalities, bev=bev, seed=seed, **options)


def tensors_of(sample):
    named = {name: value for name, value in vars(sample).items() if isinstance(value, torch.Tensor)}
    return named | {"boxes": sample.boxes.tensor}


def assert_same(one, other):
    assert tensors_of(one).keys() == tensors_of(other).keys()
    for name, tensor in tensors_of(one).items():
        assert torch.equal(tensor, tensors_of(other)[name]), name


def test_a_sample_has_the_documented_shapes_and_types(world):
    sample = dataset(world[1])[(1, 0)]
    assert sample.images.shape == (6, 3, 32, 64)
    assert sample.intrinsics.shape == (6, 3, 3)
    assert sample.lidar_from_camera.shape == sample.image_augmentation.shape == (6, 4, 4)
    assert sample.lidar.shape[1] == 5
    assert sample.radar.shape[1] == 45
    assert sample.labels.tolist() == [0]
    assert sample.images.dtype == torch.uint8
    floats = [tensor for name, tensor in tensors_of(sample).items() if name not in ("images", "labels")]
    assert {tensor.dtype for tensor in floats} == {torch.float32}
    assert sample.targets is None
    assert sample.view == 0


def test_modalities_that_are_not_asked_for_are_not_there(world):
    sample = dataset(world[1], ("radar",))[0]
    assert sample.images is None
    assert sample.intrinsics is None
    assert sample.lidar is None
    assert sample.radar is not None


def test_files_of_other_modalities_are_never_opened(world, tmp_path):
    elsewhere = PreparedData(world[1].artifact, tmp_path)
    sample = SampleDataset(elsewhere, world[1].tokens("train"), DATA, ("radar",), bev=BEV, seed=0)[(0, 0)]
    assert len(sample.radar)
    with pytest.raises(DatasetError, match="--nuscenes"):
        SampleDataset(elsewhere, world[1].tokens("train"), DATA, ("camera",), bev=BEV, seed=0)[0]


def test_views_differ_and_come_back_the_same(world):
    data = dataset(world[1])
    assert_same(data[(1, 3)], dataset(world[1])[(1, 3)])
    assert not torch.equal(data[(1, 3)].bev_augmentation, data[(1, 4)].bev_augmentation)
    assert not torch.equal(data[(1, 3)].images, data[(1, 4)].images)
    assert not torch.equal(data[(1, 3)].bev_augmentation, dataset(world[1], seed=1)[(1, 3)].bev_augmentation)


def test_a_plain_index_is_the_test_view(world):
    sample = dataset(world[1])[1]
    assert sample.view == -1
    assert torch.equal(sample.bev_augmentation, torch.eye(4))
    assert_same(sample, dataset(world[1], bev=None)[(1, 5)])


def test_all_sensors_and_boxes_move_together(world):
    """The landmark in every LiDAR and radar sweep stays one point, at the same place relative to the box."""
    data, plain = dataset(world[1]), dataset(world[1])[1]
    landmark = plain.lidar[0, :3]
    for number in range(6):
        sample = data[(1, number)]
        matrix = sample.bev_augmentation
        expected = matrix[:3, :3] @ landmark + matrix[:3, 3]
        seen = sample.lidar[sample.lidar[:, 3] == 7, :3]
        assert len(seen) == 4
        assert ((seen - expected).norm(dim=1) < 2e-3).all()
        still = sample.radar[:, 7] == 1
        assert still.sum() == 30
        assert ((sample.radar[still, :3] - expected).norm(dim=1) < 2e-3).all()
        centre = matrix[:3, :3] @ plain.boxes.centre[0] + matrix[:3, 3]
        assert torch.allclose(sample.boxes.centre[0], centre, atol=1e-4)
        moving = plain.radar[plain.radar[:, 7 + 6] == 1, 4:6]
        turned = sample.radar[sample.radar[:, 7 + 6] == 1, 4:6]
        if len(moving) == len(turned):
            assert torch.allclose(turned, moving @ matrix[:2, :2].T, atol=1e-5)


def test_the_released_radar_quirk_is_one_setting_away(world):
    quirk = DATA.model_copy(update={"released_radar_augmentation": True})
    tokens = world[1].tokens("train")
    released = SampleDataset(world[1], tokens, quirk, ("radar",), bev=BEV, seed=0)
    right, wrong = dataset(world[1], ("radar",))[(1, 0)].radar, released[(1, 0)].radar
    assert (right[:, 3] == 12.5).all()
    assert not torch.allclose(wrong[:, 3], right[:, 3])


def test_boxes_need_a_point_unless_told_otherwise(world):
    assert dataset(world[1])[0].labels.tolist() == [0]
    assert dataset(world[1], require_points=False)[0].labels.tolist() == [0, 8]


def test_unknown_velocities_are_zero(world):
    alone = SampleDataset(world[1], world[1].tokens("val"), DATA, ("radar",), bev=BEV, seed=0)[(0, 0)]
    assert torch.isnan(world[1].annotations(world[1].tokens("val")[0]).boxes.velocity).all()
    assert (alone.boxes.velocity == 0).all()


def test_boxes_whose_centre_is_on_the_border_are_out(world):
    annotations = world[1].annotations(world[1].tokens("train")[0])
    tensor = annotations.boxes.tensor.clone()
    tensor[:, 0] = torch.tensor([54.0, 53.9])
    moved = Annotations(**{**vars(annotations), "boxes": Boxes3D(tensor)})
    boxes, labels = training_boxes(moved, np.eye(4), GridConfig(), require_points=False)
    assert labels.tolist() == [8]
    assert len(boxes) == 1


def stored_targets(world, number=2):
    """Targets as a teacher with other augmentation settings would have stored them for every training sample."""
    workspace, prepared = world
    data = dataset(prepared, seed=99)
    with workspace.write(ArtifactRequest("extract-teacher", f"view-{number}", "crkd extract-teacher", {})) as writer:
        if writer.finished is None:
            items = {
                ItemKey(token, number): {"csrd": torch.full((2,), float(index))} | data.view_of(index, number).tensors()
                for index, token in enumerate(data.tokens)
            }
            write_shard(writer.path / shard_name(0), items)
            write_index(writer.path, [shard_name(0)])
            writer.finish()
        return TensorShards(writer.finished), data


def test_stored_views_are_replayed_exactly(world):
    targets, teacher = stored_targets(world)
    student = dataset(world[1], seed=5, targets=targets)
    for index in range(3):
        sample = student[(index, 2)]
        assert_same(sample, teacher[(index, 2)])
        assert sample.targets.keys() == {"csrd"}
        assert sample.targets["csrd"].tolist() == [index, index]
        assert sample.view == 2
    assert student[0].targets is None


def test_views_that_are_not_stored_are_refused(world):
    student = dataset(world[1], targets=stored_targets(world)[0])
    with pytest.raises(StaleArtifactError, match="no view 3"):
        student[(0, 3)]


def test_samples_come_the_same_from_worker_processes(world):
    targets, _ = stored_targets(world)
    data = dataset(world[1], targets=targets)
    data[(0, 2)]
    keys = [[(0, 2), (2, 2)], [(1, 2)]]
    batches = list(DataLoader(data, batch_sampler=keys, collate_fn=collate, num_workers=2))
    for batch, batch_keys in zip(batches, keys):
        for position, key in enumerate(batch_keys):
            sample = data[key]
            assert batch.tokens[position] == sample.token
            assert torch.equal(batch.inputs.images[position], sample.images)
            assert torch.equal(batch.inputs.radar[position], sample.radar)
            assert batch.targets[position].keys() == {"csrd"}


def test_little_is_sent_to_worker_processes(world):
    prepared = world[1]
    prepared.annotations(prepared.tokens("train")[0])
    sent = pickle.dumps(prepared)
    assert len(sent) < 10_000
    again = pickle.loads(sent)
    assert again.tokens("train") == prepared.tokens("train")


def test_scenes_say_what_is_in_their_description(world):
    prepared = world[1]
    scene = prepared.scene_of(prepared.tokens("val")[0])
    assert (scene.name, scene.night, scene.rain, scene.location) == ("scene-0103", True, True, "singapore-onenorth")
    assert prepared.neighbours(prepared.tokens("train")[1]) == ("scene-0061-sample-0", "scene-0061-sample-2")


def test_unknown_tokens_and_damaged_tables_are_named(world, tmp_path):
    prepared = world[1]
    with pytest.raises(DatasetError, match="no sample with the token 'nobody'"):
        prepared.annotations("nobody")
    artifact = type(prepared.artifact)(tmp_path, prepared.artifact.manifest)
    (tmp_path / "samples.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DamagedArtifactError, match=r"samples\.parquet"):
        PreparedData(artifact).tokens("train")


def sampler(data, **options):
    return TrainingSampler(data, **{"batch_size": 2, "epoch": 0, "seed": 0, **options})


def many(classes):
    """A data set of which the sampler sees only its length, its classes and those of each sample."""
    data = object.__new__(SampleDataset)
    data.prepared = SimpleNamespace(description=NUSCENES)
    data.tokens = [str(index) for index in range(len(classes))]
    data.__dict__["classes_of_samples"] = [np.array(present) for present in classes]
    return data


def test_every_sample_comes_once_in_an_order_of_the_epoch():
    data = many([[0]] * 10)
    first, second = ([key for batch in sampler(data, epoch=epoch) for key in batch] for epoch in (0, 1))
    assert sorted(index for index, _ in first) == list(range(10))
    assert [index for index, _ in first] != [index for index, _ in second]
    assert {view for _, view in first} == {0}
    assert {view for _, view in second} == {1}
    assert first == [key for batch in sampler(data) for key in batch]


@pytest.mark.parametrize(("samples", "batch", "processes"), [(10, 2, 2), (7, 2, 2), (3, 4, 2), (9, 1, 4)])
def test_processes_share_every_step_evenly(samples, batch, processes):
    data = many([[0]] * samples)
    shares = [list(sampler(data, batch_size=batch, rank=rank, world_size=processes)) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    assert all(len(keys) == batch for share in shares for keys in share)
    together = [key for step in zip(*shares) for keys in step for key in keys]
    alone = [key for keys in sampler(data, batch_size=batch * processes) for key in keys]
    assert together == alone
    assert {index for index, _ in together} == set(range(samples))


def test_an_epoch_continues_from_any_batch():
    data = many([[0]] * 11)
    whole = list(sampler(data, rank=1, world_size=2))
    for start in range(len(whole) + 1):
        rest = sampler(data, rank=1, world_size=2, start=start)
        assert list(rest) == whole[start:]
        assert len(rest) == len(whole) - start


def test_epochs_cycle_through_the_stored_views():
    data = many([[0]] * 4)
    views = [{view for batch in sampler(data, epoch=epoch, views=3) for _, view in batch} for epoch in range(5)]
    assert views == [{0}, {1}, {2}, {0}, {1}]


def test_a_fraction_of_an_epoch_is_used():
    data = many([[0]] * 20)
    assert sum(len(batch) for batch in sampler(data, fraction=0.25, batch_size=5)) == 5
    assert sum(len(batch) for batch in sampler(data, fraction=1e-6, batch_size=1)) == 1


def test_class_balancing_draws_every_class_equally_often():
    classes = [[0]] * 90 + [[0, 7]] * 9 + [[9]] + [[]] * 20
    drawn = class_balanced_indices([np.array(present) for present in classes], 10, np.random.default_rng(0))
    share = (99 + 9 + 1) // 10
    assert len(drawn) == 3 * share
    assert (drawn == 99).sum() == share
    assert ((drawn >= 90) & (drawn < 99)).sum() >= share
    assert drawn.max() < 100


def test_class_balanced_epochs_are_equally_long_and_repeats_come_in_other_views():
    data = many([[0]] * 90 + [[0, 7]] * 9 + [[9]])
    epochs = [[key for batch in sampler(data, class_balanced=True, epoch=epoch) for key in batch] for epoch in (0, 1)]
    assert len(epochs[0]) == len(epochs[1])
    repeated = [view for index, view in epochs[0] if index == 99]
    assert len(repeated) > 5
    assert len(set(repeated)) == len(repeated)
    stored = [view for batch in sampler(data, class_balanced=True, views=4) for index, view in batch if index == 99]
    assert set(stored) == {0, 1, 2, 3}


def test_a_mirrored_view_mirrors_every_sensor_and_the_boxes(world):
    targets, _ = stored_targets(world, number=0)
    data = dataset(world[1], targets=targets, mirror_targets=True)
    for index in range(3):
        plain = data[(index, 0)]
        assert plain.mirrored == (False, False)
        for number, signs in ((1, (-1.0, 1.0)), (2, (1.0, -1.0)), (3, (-1.0, -1.0))):
            sample = data[(index, number)]
            assert sample.view == number
            assert sample.mirrored == (signs[0] < 0, signs[1] < 0)
            sign = torch.tensor(signs)
            assert torch.equal(sample.images, plain.images)
            assert torch.equal(sample.targets["csrd"], plain.targets["csrd"])
            assert torch.equal(sample.bev_augmentation[:2], plain.bev_augmentation[:2] * sign[:, None])
            for name, columns in (("lidar", (0,)), ("radar", (0, 4))):
                for column in columns:
                    moved = getattr(plain, name)[:, column : column + 2] * sign
                    torch.testing.assert_close(getattr(sample, name)[:, column : column + 2], moved, msg=name)
            assert torch.equal(sample.labels, plain.labels)
            assert len(sample.boxes) == len(plain.boxes) > 0
            torch.testing.assert_close(sample.boxes.centre[:, :2], plain.boxes.centre[:, :2] * sign)
            torch.testing.assert_close(sample.boxes.velocity, plain.boxes.velocity * sign)
    assert torch.equal(data[(0, 4)].boxes.tensor, data[(0, 0)].boxes.tensor)
