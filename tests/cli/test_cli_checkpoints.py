"""Checkpoint files as people find them, through the command: what fits is taken, everything else is one sentence."""

import os

import pytest
import torch

from crkd_core.config import load_config
from crkd_core.models.detector import build_detector
from crkd_core.training.student import without_calibration
from crkd_core.weights.published import export_detector
from tests.support.described import TASKS

AS_STUDENT = ("--as", "student", "--preset", "tiny")
WEIGHT = "heads.object.shared_conv.conv.weight"
NX = "encoders.camera.vtransform.nx"


@pytest.fixture(scope="module")
def student() -> dict[str, torch.Tensor]:
    """A plain student as the published code saves it."""
    torch.manual_seed(0)
    config = load_config("tiny")
    detector = without_calibration(config.student)
    return export_detector(build_detector(detector, config.data, TASKS).state_dict(), detector, config.data)


def prefixed(state, prefix):
    return {prefix + key: tensor for key, tensor in state.items()}


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda s: {"model_state_dict": prefixed(s, "module.model.")}, ()),
        (lambda s: {"net": prefixed(s, "_orig_mod.")}, ()),
        (lambda s: {"state_dict": {**prefixed(s, "model."), "criterion.weight": torch.ones(1)}}, ()),
        (lambda s: {"state_dict": {key: tensor.half() for key, tensor in s.items()}}, ()),
        (
            lambda s: {"state_dict": s, "model_ema": {**prefixed(s, "module."), "steps": torch.tensor(3)}},
            ("--ema",),
        ),
        (lambda s: {"ema": {"module": s, "updates": 3}}, ("--ema",)),
    ],
)
def test_copies_of_a_student_are_taken(crkd, student, tmp_path, make, options):
    torch.save(make(student), tmp_path / "student.pth")
    result = crkd("import-weights", "student.pth", *AS_STUDENT, *options)
    assert (result.code, result.out.splitlines()[1]) == (0, "model     student_r50"), result.err


def looped(_):
    values: dict = {}
    values["state_dict"] = values
    return values


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (looped, "holds no named tensors"),
        (lambda s: {"optimizer": {"state": {}, "param_groups": []}}, "only an optimiser's state"),
        (lambda s: {**s, WEIGHT: s[WEIGHT].to_sparse()}, "1 sparse or nested"),
        (lambda s: {**s, WEIGHT: s[WEIGHT].to("meta")}, "1 meta, without data"),
        (lambda s: {**s, WEIGHT: s[WEIGHT] * float("nan")}, "1 with NaN or infinity"),
        (lambda s: {**s, WEIGHT: s[WEIGHT].to(torch.complex64)}, "1 of type complex64"),
        (lambda s: {**s, WEIGHT: s[WEIGHT].char()}, "1 of type int8"),
        (lambda s: {**s, NX: torch.tensor(1).expand(10**12)}, "found (1000000000000,) of int64"),
        (lambda s: {**s, WEIGHT: torch.zeros(1).expand(10**12)}, "(1000000000000,) instead of (16, 48, 3, 3)"),
        (lambda s: {k: t for k, t in s.items() if ".task_heads.5." not in k}, "tells 8 classes apart"),
        (lambda s: {"ema": s}, "take them with --ema"),
        (lambda s: {"pts_bbox_head.a": torch.ones(1)}, "of no known model"),
    ],
)
def test_files_that_are_no_students_are_refused(refused, student, tmp_path, make, words):
    torch.save(make(student), tmp_path / "student.pth")
    refused(2, (words,), "import-weights", "student.pth", *AS_STUDENT)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(100), "is damaged or incomplete"),
    ],
)
def test_what_is_no_checkpoint_is_named(refused, tmp_path, content, words):
    (tmp_path / "file.pth").write_bytes(content)
    refused(2, (words,), "import-weights", "file.pth", *AS_STUDENT)


def test_folders_pipes_and_addresses_are_named(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for file, words in (
        ("folder", "is a folder, not a checkpoint file"),
        ("pipe", "is a named pipe, not a checkpoint file"),
        ("/dev/zero", "is a device, not a checkpoint file"),
        ("https://example.org/a.pth", "crkd downloads nothing"),
    ):
        refused(2, (words,), "import-weights", file, *AS_STUDENT)


def test_averages_that_are_not_there_are_refused(refused, student, tmp_path):
    torch.save(student, tmp_path / "student.pth")
    refused(2, ("leave out --ema",), "import-weights", "student.pth", *AS_STUDENT, "--ema")
