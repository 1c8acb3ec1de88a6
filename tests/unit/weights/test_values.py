"""Values of published weights: number types, copies in half precision, what no trained model holds."""

import pytest
import torch

from crkd_core.config import load_config
from crkd_core.errors import ConfigError, UsageError
from crkd_core.weights.published import import_detector
from tests.support.described import NUSCENES
from tests.support.published_models import TINY, tiny_published, tiny_weights

WEIGHT = "heads.object.shared_conv.conv.weight"
VARIANCE = "heads.object.shared_conv.bn.running_var"
VIEW = "encoders.camera.vtransform."


@pytest.fixture
def published() -> dict[str, torch.Tensor]:
    return tiny_published("student")


def imported(state):
    return import_detector(state, TINY.student, TINY.data, NUSCENES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("everything", [False, True])
def test_copies_in_another_precision_are_imported(published, dtype, everything):
    counted = {key: tensor + 150_000 if "num_batches" in key else tensor for key, tensor in published.items()}
    copy = {k: t.to(dtype) if everything or t.is_floating_point() else t for k, t in counted.items()}
    weights = imported(copy)
    tolerance = torch.finfo(dtype).eps
    for key, expected in tiny_weights("student").items():
        if key.endswith("num_batches_tracked"):
            # Half precision ends at 65504: a counter beyond it has become infinite, and begins anew.
            copied = (expected + 150_000).to(dtype if everything else torch.long)
            assert weights[key].dtype == torch.long
            assert int(weights[key]) == (int(copied) if copied.isfinite() else 0)
        else:
            assert weights[key].dtype == torch.float32
            assert torch.allclose(weights[key], expected, rtol=tolerance, atol=1e-6), key


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "change",
    [
        "data.grid.x_range_m=[-24, 24]",
        "student.camera.view_transform.z_range_m=[-5, 5]",
        "student.camera.view_transform.depth_range_m=[2, 50]",
    ],
)
def test_a_copy_in_half_precision_for_another_grid_is_still_refused(published, dtype, change):
    other = load_config("tiny", None, [change])
    copy = {key: tensor.to(dtype) for key, tensor in published.items()}
    with pytest.raises(ConfigError, match="is not what the configuration makes it"):
        import_detector(copy, other.student, other.data, NUSCENES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(published, value):
    published[WEIGHT][3, 1] = value
    published[VARIANCE][2] = value
    with pytest.raises(UsageError, match=r"weights are unusable: 2 with NaN or infinity \(heads\.object\.shared_conv"):
        imported(published)


def test_weights_beyond_single_precision_are_refused(published):
    published[WEIGHT] = published[WEIGHT].double() * 1e300
    with pytest.raises(UsageError, match="1 with NaN or infinity"):
        imported(published)


def test_negative_variances_are_refused(published):
    published[VARIANCE][0] = -1e-3
    with pytest.raises(UsageError, match=r"1 with negative variances \(heads\.object\.shared_conv\.bn\.running_var\)"):
        imported(published)


@pytest.mark.parametrize(
    "dtype", [torch.complex64, torch.int8, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn]
)
def test_weights_of_other_number_types_are_refused(published, dtype):
    published[WEIGHT] = published[WEIGHT].to(dtype)
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(UsageError, match=rf"no floating-point numbers: 1 of type {kind} \({WEIGHT}\)"):
        imported(published)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nx", torch.tensor(1).expand(10**12)),
        ("nx", torch.tensor([10**18, 10**18, 1])),
        ("nx", torch.tensor([64 + 1j, 64, 1])),
        ("dx", torch.tensor([float("nan")] * 3)),
        ("bx", torch.tensor(0.0).expand(10**6, 10**6)),
        ("frustum", torch.tensor(1.0).expand(48, 8, 24, 10**12)),
    ],
)
def test_constants_of_absurd_size_or_value_are_refused_without_touching_them(published, key, value):
    published[VIEW + key] = value
    with pytest.raises(ConfigError, match=rf"vtransform\.{key} is not what the configuration makes it: expected"):
        imported(published)


def test_weights_that_claim_an_absurd_size_are_refused_without_touching_them(published):
    published[WEIGHT] = torch.zeros(1).expand(10**12)
    with pytest.raises(ConfigError, match=r"\d+ of \d+ tensors do, 1 of another shape \(.*\(1000000000000,\) instead"):
        imported(published)


def test_another_number_of_classes_says_so(published):
    fewer = {key: tensor for key, tensor in published.items() if ".task_heads.5." not in key}
    with pytest.raises(UsageError, match=r"tells 8 classes apart, in tasks of 1, 2, 2, 1, 2, and crkd's the 10"):
        imported(fewer)
    other = {k: t[:1] if ".task_heads.1.heatmap.1." in k else t for k, t in published.items()}
    with pytest.raises(UsageError, match=r"tells 9 classes apart, in tasks of 1, 1, 2, 1, 2, 2"):
        imported(other)
