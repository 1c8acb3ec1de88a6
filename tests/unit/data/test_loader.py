"""Batches through loader processes: the same tensors, few open files, and limits that are told."""

import os
import resource
from dataclasses import is_dataclass
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

from crkd_core.data import descriptors
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.descriptors import allow_open_files, is_about_open_files
from crkd_core.data.loader import LoaderOptions, _Collate, _ErrorsAsValues, _start_worker, load_batches
from crkd_core.data.packing import SHARED_MEMORY, pack, remove_shared_memory
from crkd_core.data.samples import Batch
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import CrkdError, UsageError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.sensors import CameraRig, SensorInputs

CPU = torch.device("cpu")


def make_batch() -> Batch:
    images = torch.randn(2, 6, 3, 8, 12)
    rig = CameraRig(torch.randn(2, 6, 3, 3), torch.randn(2, 6, 4, 4), torch.randn(2, 6, 4, 4))
    inputs = SensorInputs(
        images=images.movedim(2, -1).contiguous().movedim(-1, 2),
        rig=rig,
        lidar=None,
        radar=[torch.randn(7, 45), torch.zeros(0, 45)],
        bev_augmentation=torch.eye(4).expand(2, 4, 4),
    )
    targets = [
        {"int8": torch.arange(5, dtype=torch.int8), "half": torch.randn(3).bfloat16(), "one": torch.tensor(2.5)},
        {"mask": torch.tensor([True, False, True]), "empty": torch.zeros(0, dtype=torch.int64)},
    ]
    boxes = [Boxes3D(torch.randn(4, 9)), Boxes3D.empty()]
    labels = [torch.arange(4), torch.zeros(0, dtype=torch.int64)]
    return Batch(["a", "b"], [0, 1], inputs, boxes, labels, targets, [(True, False), (False, False)])


def leaves(value) -> list:
    if isinstance(value, dict):
        value = [item for pair in value.items() for item in pair]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value), *leaves([getattr(value, name) for name in value.__dataclass_fields__])]
    return [value]


def assert_same(batch: Batch, other: Batch) -> None:
    assert len(leaves(batch)) == len(leaves(other))
    for left, right in zip(leaves(batch), leaves(other)):
        if isinstance(left, torch.Tensor):
            assert left.dtype == right.dtype
            assert torch.equal(left, right)
            assert right.stride() == torch.empty_like(left).stride()
        else:
            assert left == right


def test_a_packed_batch_is_the_batch_in_one_piece_of_shared_memory():
    batch = make_batch()
    packed = pack(batch)
    assert packed.data.is_shared()
    assert not [leaf for leaf in leaves(packed.layout) if isinstance(leaf, torch.Tensor)]
    unpacked = packed.unpack()
    assert_same(batch, unpacked)
    tensors = [leaf for leaf in leaves(unpacked) if isinstance(leaf, torch.Tensor)]
    assert all(tensor.data_ptr() % tensor.element_size() == 0 for tensor in tensors)
    assert {tensor.untyped_storage().data_ptr() for tensor in tensors} == {packed.data.untyped_storage().data_ptr()}


def test_a_batch_without_tensors_passes_too():
    inputs = SensorInputs(None, None, None, None, torch.zeros(0, 4, 4))
    assert pack(Batch([], [], inputs, [], [], None)).unpack().tokens == []


@pytest.fixture(scope="module")
def samples(chain) -> SampleDataset:
    prepared = PreparedData(chain.workspace.find("prepare", needed_for="test", make=""))
    data = chain.config.data
    return SampleDataset(
        prepared, prepared.tokens("train"), data, ("camera", "radar"), bev=data.augment_student, seed=1
    )


KEYS = [[(i % 4, i), ((i + 1) % 4, i)] for i in range(10)]


def test_loader_processes_give_the_same_batches_and_hold_one_file_for_each(samples):
    alone = list(load_batches(samples, KEYS, LoaderOptions(0), CPU))
    before = len(os.listdir("/dev/fd"))
    loaded = list(load_batches(samples, KEYS, LoaderOptions(2), CPU))
    a_few = 8  # pipes and what multiprocessing opens once
    assert len(os.listdir("/dev/fd")) - before <= len(KEYS) + a_few
    for batch, other in zip(alone, loaded, strict=True):
        assert_same(batch, other)


def test_no_more_processes_than_batches(samples, monkeypatch):
    allowed = []
    monkeypatch.setattr("crkd_core.data.loader.allow_open_files", lambda workers, option: allowed.append(workers))
    assert len(list(load_batches(samples, KEYS[:1], LoaderOptions(8), CPU))) == 1
    assert list(load_batches(samples, [], LoaderOptions(8), CPU)) == []
    assert allowed == [1]


def test_what_is_sent_to_a_spawned_loader_process_can_be_sent(samples):
    for part in (_ErrorsAsValues(samples, LoaderOptions(1)), _Collate(LoaderOptions(1)), _start_worker):
        assert ForkingPickler.dumps(part)


@pytest.fixture
def limits(monkeypatch):
    """The limit of open files, soft and hard, as the system would have it; changed by what is tested."""
    values = [64, 64]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(values))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: values.__setitem__(slice(None), pair))
    monkeypatch.setattr(descriptors, "_open_files", lambda: 20)
    return values


@pytest.mark.parametrize(("hard", "raised"), [(4096, 1024), (300, 300), (resource.RLIM_INFINITY, 1024)])
def test_the_soft_limit_is_raised_as_far_as_needed(limits, hard, raised):
    limits[:] = [64, hard]
    allow_open_files(8, "--set train.workers=")
    assert limits == [raised, hard]


@pytest.mark.parametrize("soft", [4096, resource.RLIM_INFINITY])
def test_a_limit_that_suffices_stays(limits, soft):
    limits[:] = [soft, soft]
    allow_open_files(8, "--set train.workers=")
    assert limits == [soft, soft]


def test_a_hard_limit_that_is_too_low_is_told_with_a_number_that_works(limits):
    limits[:] = [128, 160]
    with pytest.raises(UsageError, match=r"allows 160 \(ulimit -Hn\); use --workers 5, .* ulimit -n is 1024"):
        allow_open_files(8, "--workers ")
    allow_open_files(5, "--workers ")


@pytest.mark.parametrize("words", ["received 0 items of ancdata", "[Errno 24] Too many open files: 'x'"])
def test_errors_for_want_of_open_files_are_told_from_damage(words):
    assert is_about_open_files(RuntimeError(words))
    assert not is_about_open_files(OSError(2, "No such file"))


def _call_it_damaged() -> None:
    try:
        raise OSError(24, "Too many open files")
    except OSError:
        raise CrkdError("the image is damaged") from None


def test_the_reason_is_seen_behind_another_error():
    with pytest.raises(CrkdError) as raised:
        _call_it_damaged()
    assert is_about_open_files(raised.value)


def test_a_sample_that_finds_no_free_file_is_not_called_damaged(samples, monkeypatch):
    def fail(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("crkd_core.data.images.Image.open", fail)
    with pytest.raises(CrkdError, match=r"may open no more files; allow more \(ulimit -n 4096\)"):
        list(load_batches(samples, KEYS, LoaderOptions(0), CPU))


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left"), "--shm-size=8g"),
        (OSError(24, "Too many open files"), "may open no more files"),
        (MemoryError(), "too little memory for 2 loader processes"),
    ],
)
def test_a_loader_process_that_can_not_hand_on_its_batch_says_why(samples, monkeypatch, failure, sentence):
    def fail(_):
        raise failure

    monkeypatch.setattr("crkd_core.data.loader.pack", fail)
    with pytest.raises(CrkdError, match=sentence) as raised:
        list(load_batches(samples, KEYS, LoaderOptions(2), CPU))
    assert "run it again with fewer: --set train.workers=1" in str(raised.value)


def test_processes_that_can_not_be_started_are_told(samples, monkeypatch):
    def fail():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fail)
    with pytest.raises(CrkdError, match="2 loader processes could not be started: Resource temporarily unavailable"):
        list(load_batches(samples, KEYS, LoaderOptions(2), CPU))


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="no shared memory with names")
def test_memory_of_a_process_that_was_killed_is_removed_and_no_other(monkeypatch, tmp_path):
    monkeypatch.setattr("crkd_core.data.packing.SHARED_MEMORY", tmp_path)
    for name in ("torch_123_1_0", "torch_124_1_0", "sem.123"):
        (tmp_path / name).touch()
    remove_shared_memory(123, since=float("inf"))
    assert len(list(tmp_path.iterdir())) == 3
    remove_shared_memory(123, since=0.0)
    assert {path.name for path in tmp_path.iterdir()} == {"torch_124_1_0", "sem.123"}
