"""Teacher targets: live, stored and collated."""

import dataclasses

import pytest
import torch

from crkd_core.artifacts.shards import pack_item, unpack_item
from crkd_core.config.distill import DistillConfig, MSFDConfig, RelDConfig
from crkd_core.distillation.losses import build_targets, build_terms, decode_targets
from crkd_core.distillation.masks import foreground_mask
from crkd_core.distillation.objective import build_objective
from crkd_core.distillation.probability import PROBABILITY_MARGIN
from crkd_core.distillation.quantisation import ChannelCodes, probabilities, probability_codes
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.errors import ConfigError, DamagedArtifactError
from crkd_core.models.outputs import gather_cells

CONFIG = DistillConfig(reld=RelDConfig(scales=(16, 8, 4)))


@pytest.fixture
def targets(random_output, random_boxes, small_grid):
    return build_targets(random_output(1), random_boxes(2), small_grid, CONFIG)


def _through_disk(targets, storage):
    items = [pack_item(sample.encode(storage)) for sample in targets.split()]
    return TeacherTargets.join([decode_targets(unpack_item(item)) for item in items])


def _flat(targets) -> dict[str, torch.Tensor]:
    named = {}
    for index, sample in enumerate(targets.split()):
        named |= {f"{index}.{name}": tensor for name, tensor in sample.encode("fp32").items()}
    return named


def _gradients(random_output, leaves, grid, targets):
    student = random_output(5)
    torch.manual_seed(0)
    objective = build_objective(CONFIG, grid, 8)
    losses = objective(student, targets)
    grads = torch.autograd.grad(sum(losses.values()), leaves(student) + list(objective.parameters()))
    return losses, grads


def test_stored_in_fp32_every_loss_and_gradient_equals_the_live_teacher_s(random_output, leaves, small_grid, targets):
    live_losses, live_grads = _gradients(random_output, leaves, small_grid, targets)
    losses, grads = _gradients(random_output, leaves, small_grid, _through_disk(targets, "fp32"))
    assert list(losses) == ["csrd", "msfd_camera", "msfd_fused", "reld", "respd"]
    for name, loss in losses.items():
        assert loss > 0
        torch.testing.assert_close(loss, live_losses[name], rtol=1e-6, atol=0, msg=name)
    for stored, live in zip(grads, live_grads, strict=True):
        assert live.abs().sum() > 0
        torch.testing.assert_close(stored, live, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("storage", "loss_deviation", "gradient_deviation"), [("fp16", 2e-3, 5e-3), ("int8", 5e-3, 1e-2)]
)
def test_stored_in_fewer_bits_losses_and_gradients_stay_close(
    random_output, leaves, small_grid, targets, storage, loss_deviation, gradient_deviation
):
    live_losses, live_grads = _gradients(random_output, leaves, small_grid, targets)
    losses, grads = _gradients(random_output, leaves, small_grid, _through_disk(targets, storage))
    for name, loss in losses.items():
        torch.testing.assert_close(loss, live_losses[name], rtol=loss_deviation, atol=0, msg=name)
    for stored, live in zip(grads, live_grads, strict=True):
        assert (stored - live).norm() < gradient_deviation * live.norm()


def test_samples_from_different_batches_join_to_the_batch_s_own_targets(
    random_output, random_boxes, small_grid, leaves
):
    """Stored cells of a sample suffice whatever samples it meets, also for the batch-wide falling threshold."""
    output, boxes = random_output(1), random_boxes(2)
    whole = build_targets(output, boxes, small_grid, CONFIG).split()
    one_by_one = []
    for sample in range(3):
        alone = _slice(output, sample)
        one_by_one += build_targets(alone, boxes[sample : sample + 1], small_grid, CONFIG).split()
    live, cached = (_gradients(random_output, leaves, small_grid, TeacherTargets.join(s)) for s in (whole, one_by_one))
    for name, loss in live[0].items():
        torch.testing.assert_close(cached[0][name], loss, rtol=1e-6, atol=0)
    for gradient, live_gradient in zip(cached[1], live[1], strict=True):
        torch.testing.assert_close(gradient, live_gradient, rtol=1e-5, atol=1e-8)


def _slice(value, sample: int):
    if isinstance(value, torch.Tensor):
        return value[sample : sample + 1]
    if isinstance(value, tuple):
        return tuple(_slice(item, sample) for item in value)
    return dataclasses.replace(
        value, **{f.name: _slice(getattr(value, f.name), sample) for f in dataclasses.fields(value)}
    )


def test_round_trip_is_exact_in_fp32(targets):
    expected, actual = _flat(targets), _flat(_through_disk(targets, "fp32"))
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("storage", ["fp16", "int8"])
def test_round_trip_in_fewer_bits_is_as_close_as_promised(targets, storage):
    parts, stored_parts = targets.parts, _through_disk(targets, storage).parts
    for name in ("msfd.camera", "msfd.fused"):
        exact, stored = parts[name], stored_parts[name]
        assert torch.equal(exact.indices, stored.indices)
        step = (exact.features.amax(0).clamp(min=0) - exact.features.amin(0).clamp(max=0)) / 255
        allowed = 0.501 * step if storage == "int8" else 5e-4 * exact.features.abs() + 1e-7
        assert ((exact.features - stored.features).abs() <= allowed).all()
    zero = parts["msfd.fused"].features == 0
    assert zero.any()
    assert (stored_parts["msfd.fused"].features[zero] == 0).all()
    for exact, stored in zip(parts["reld"].maps, stored_parts["reld"].maps, strict=True):
        largest = exact.amax(dim=(2, 3), keepdim=True)
        allowed = 0.51 * largest / 255 if storage == "int8" and exact.shape[2] > 8 else 5e-4 * exact + 1e-7
        assert ((exact - stored).abs() <= allowed).all()
    objectness = (of["csrd.objectness"].values for of in (stored_parts, parts))
    torch.testing.assert_close(*objectness, rtol=5e-4, atol=1e-7)
    for exact, stored in zip(parts["respd"].tasks, stored_parts["respd"].tasks, strict=True):
        torch.testing.assert_close(exact.boxes.features, stored.boxes.features, rtol=5e-4, atol=1e-6)
        off = (exact.heatmap_prob - stored.heatmap_prob).abs()
        assert (off <= exact.heatmap_prob.sqrt() / 255 + 4e-6).all()
        peaks = (gather_cells(task.heatmap_prob, exact.boxes.indices) for task in (exact, stored))
        torch.testing.assert_close(*peaks, rtol=5e-4, atol=1e-6)


def test_probability_codes_reach_from_margin_to_margin():
    probability = torch.linspace(0, 1, 10001)
    codes = probability_codes(probability)
    assert (codes[0], codes[-1]) == (0, 255)
    assert torch.equal(codes, codes.sort().values)
    assert torch.equal(probability_codes(probabilities(codes)), codes)
    torch.testing.assert_close(
        probabilities(codes[[0, -1]]), torch.tensor([PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN]), rtol=1e-6, atol=0
    )


def test_channels_of_zeros_or_one_sign_or_without_cells_have_codes():
    values = torch.tensor([[0.0, -1.0, 2.0, 0.5], [0.0, -3.0, 0.0, -0.5]])
    torch.testing.assert_close(ChannelCodes.of(values).values(), values, rtol=0, atol=0.5 / 255)
    none = ChannelCodes.of(torch.zeros(0, 3))
    assert none.values().shape == (0, 3)
    assert torch.equal(none.scale, torch.zeros(3))


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_stored_tensors_are_compact(targets, storage):
    bits = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.uint8}[storage]
    code = torch.float32 if storage == "fp32" else torch.uint8
    half = torch.float32 if storage == "fp32" else torch.float16
    for sample in targets.split():
        tensors = sample.encode(storage)
        for name, tensor in tensors.items():
            assert tensor.is_contiguous()
            assert storage == "fp32" or tensor.untyped_storage().nbytes() == tensor.nbytes, name
        floats = {name: tensor.dtype for name, tensor in tensors.items() if tensor.dtype != torch.int32}
        expected = {f"{name}.features": bits for name in ("msfd.camera", "msfd.fused", "reld")}
        if storage == "int8":
            expected |= {f"{name}.{part}": torch.float32 for name in expected for part in ("scale", "lowest")}
        expected |= {"csrd.objectness": half, "respd.heatmap_prob": code, "respd.features": half}
        expected |= {"reld.coarse": half} if storage == "int8" else {}
        assert floats == expected | ({} if storage == "fp32" else {"respd.peaks": half})
    mask_cells = targets.parts["msfd.fused"].features.shape[0]
    assert 0 < mask_cells < 0.5 * targets.batch_size * targets.grid_shape[0] * targets.grid_shape[1]


def test_values_beyond_half_precision_become_its_largest(random_output, random_boxes, small_grid):
    output = random_output(1)
    with torch.no_grad():
        output.features.gated_camera.fill_(1e6)
    stored = _through_disk(build_targets(output, random_boxes(2), small_grid, CONFIG), "fp16")
    features = stored.parts["msfd.camera"].features
    assert torch.equal(features, torch.full_like(features, 65504.0))


def test_targets_have_no_gradient_and_leave_the_output_unchanged(random_output, random_boxes, small_grid, leaves):
    output, boxes = random_output(1), random_boxes(2)
    before = [leaf.detach().clone() for leaf in leaves(output)]
    box_tensors = [part.tensor.clone() for part in boxes]
    targets = build_targets(output, boxes, small_grid, CONFIG)
    assert not any(tensor.requires_grad for tensor in _flat(targets).values())
    assert all(torch.equal(now, then) for now, then in zip(leaves(output), before))
    assert all(torch.equal(now.tensor.nan_to_num(), then.nan_to_num()) for now, then in zip(boxes, box_tensors))


def test_half_precision_teachers_give_float32_targets(random_output, random_boxes, small_grid):
    targets = build_targets(random_output(1, dtype=torch.float16), random_boxes(2), small_grid, CONFIG)
    assert targets.parts["csrd.objectness"].values.dtype == targets.parts["msfd.fused"].features.dtype == torch.float32
    assert all(tensor.isfinite().all() for tensor in _flat(targets).values())


def test_only_what_the_chosen_losses_need_is_kept(random_output, random_boxes, small_grid):
    def kept(**changes) -> set[str]:
        config = CONFIG.model_copy(update=changes)
        sample = build_targets(random_output(1), random_boxes(2), small_grid, config).split()[0]
        return {name.rpartition(".")[0] for name in sample.encode("fp16") if "." in name}

    assert kept(losses=("csrd",)) == {"csrd"}
    assert kept(losses=("msfd",)) == {"msfd.camera", "msfd.fused"}
    assert kept(losses=("msfd",), msfd=MSFDConfig(camera_weight=0.0)) == {"msfd.fused"}
    assert kept(losses=("reld",)) == {"reld"}
    assert kept(losses=("respd",)) == {"respd"}
    assert kept(losses=()) == set()


def _scalars(config) -> tuple[str, ...]:
    return tuple(scalar for term in build_terms(config) for scalar in term.scalars)


def test_scalars_follow_losses_and_weights():
    assert _scalars(CONFIG) == ("csrd", "msfd_camera", "msfd_fused", "reld", "respd")
    no_fused = CONFIG.model_copy(update={"msfd": MSFDConfig(fused_weight=0.0), "losses": ("respd", "msfd")})
    assert _scalars(no_fused) == ("msfd_camera", "respd")


def test_the_quirk_and_the_option_give_the_same_released_masks(random_output, random_boxes, small_grid):
    option = CONFIG.model_copy(update={"msfd": MSFDConfig(mask="released")})
    quirk = CONFIG.model_copy(update={"released_quirks": ("mask",)})
    boxes = random_boxes(2)
    by_option, by_quirk, plain = (
        build_targets(random_output(1), boxes, small_grid, c).parts["msfd.camera"].indices
        for c in (option, quirk, CONFIG)
    )
    assert torch.equal(by_option, by_quirk)
    assert not torch.equal(by_option, plain)
    mask = torch.stack([foreground_mask(part, small_grid, option.msfd) for part in boxes])
    assert torch.equal(by_option, mask.flatten().nonzero().squeeze(1))


def test_no_boxes_at_all_and_a_batch_of_one(random_output, random_boxes, small_grid, leaves):
    empty = [random_boxes(2)[-1]]
    assert len(empty[0]) == 0
    teacher = build_targets(random_output(1, batch=1), empty, small_grid, CONFIG)
    student = random_output(5, batch=1)
    for targets in (teacher, _through_disk(teacher, "fp16")):
        losses = build_objective(CONFIG, small_grid, 8)(student, targets)
        assert losses["msfd_camera"] == 0
        assert losses["msfd_fused"] == 0
        grads = torch.autograd.grad(sum(losses.values()), leaves(student))
        assert all(grad.isfinite().all() for grad in grads)


def test_moving_keeps_everything(targets):
    moved = targets.to("cpu")
    assert moved.batch_size == targets.batch_size
    assert moved.grid_shape == targets.grid_shape
    expected = _flat(targets)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in _flat(moved).items())
    assert targets.to("meta").parts["respd"].tasks[5].boxes.features.device.type == "meta"


def test_a_teacher_without_camera_or_on_another_grid_is_refused(random_output, random_boxes, small_grid):
    output, boxes = random_output(1), random_boxes(2)
    blind = dataclasses.replace(output, features=dataclasses.replace(output.features, gated_camera=None))
    with pytest.raises(ConfigError, match=r"distill\.msfd\.camera_weight"):
        build_targets(blind, boxes, small_grid, CONFIG)
    with pytest.raises(ConfigError, match="grid"):
        build_targets(output, boxes, small_grid.with_cell(0.75), CONFIG)
    with pytest.raises(ConfigError, match=r"\(2, 20, 16\)"):
        build_targets(output, boxes[:2], small_grid, CONFIG)


def test_samples_of_different_extractions_do_not_mix(random_output, random_boxes, small_grid, targets):
    other = CONFIG.model_copy(update={"reld": RelDConfig(scales=(16, 8, 2))})
    samples = build_targets(random_output(1), random_boxes(2), small_grid, other).split()
    with pytest.raises(ConfigError, match="sample 1"):
        TeacherTargets.join([targets.split()[0], samples[1]])
    with pytest.raises(ConfigError, match="at least one"):
        TeacherTargets.join([])


def test_damaged_tensors_are_named(targets):
    tensors = targets.split()[0].encode("int8")
    for missing in ("grid_shape", "msfd.fused.features", "reld.features.scale", "respd.heatmap_prob", "respd.peaks"):
        with pytest.raises(DamagedArtifactError, match=missing):
            decode_targets({name: value for name, value in tensors.items() if name != missing})
    with pytest.raises(DamagedArtifactError, match="do not fit together"):
        decode_targets(tensors | {"respd.cells": tensors["respd.cells"] + 1})
    beyond = tensors["msfd.camera.indices"].clone()
    beyond[-1] = 20 * 16
    with pytest.raises(DamagedArtifactError, match=r"msfd\.camera\.indices"):
        decode_targets(tensors | {"msfd.camera.indices": beyond})
