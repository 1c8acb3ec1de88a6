"""The weighted sum of the loss terms."""

import dataclasses

import pytest
import torch

from crkd_core.config.distill import CSRDConfig, DistillConfig, MSFDConfig, RelDConfig
from crkd_core.config.models import CameraBranchConfig, DetectorConfig, RadarBranchConfig, ViewTransformConfig
from crkd_core.distillation.csrd import csrd_loss
from crkd_core.distillation.losses import build_targets
from crkd_core.distillation.objective import DistillationObjective, build_objective
from crkd_core.distillation.reld import RelD
from crkd_core.distillation.requirements import fused_channels
from crkd_core.errors import ConfigError
from crkd_core.models.outputs import DetectorOutput

CONFIG = DistillConfig(reld=RelDConfig(scales=(8, 4)))
NO_ADAPTER = DistillConfig(reld=RelDConfig(scales=(8, 4), adapter=False))


@pytest.fixture
def targets(random_output, random_boxes, small_grid):
    return build_targets(random_output(1), random_boxes(2), small_grid, CONFIG)


def _without(output: DetectorOutput, name: str) -> DetectorOutput:
    return dataclasses.replace(output, features=dataclasses.replace(output.features, **{name: None}))


def test_terms_are_weighted_and_unweighted_ones_are_left_out(random_output, small_grid, targets):
    student = random_output(5)
    losses = build_objective(CONFIG, small_grid, 8)(student, targets)
    plain = csrd_loss(student.features.radar_activation, targets.parts["csrd.objectness"].values)
    torch.testing.assert_close(losses["csrd"], 100 * plain)
    halved = CONFIG.model_copy(
        update={"csrd": CSRDConfig(weight=50.0), "msfd": MSFDConfig(camera_weight=0.0), "losses": ("csrd", "msfd")}
    )
    again = build_objective(halved, small_grid, 8)(student, targets)
    assert list(again) == ["csrd", "msfd_fused"]
    torch.testing.assert_close(again["csrd"], losses["csrd"] / 2)
    torch.testing.assert_close(again["msfd_fused"], losses["msfd_fused"])


def test_an_objective_without_losses_is_empty(random_output, small_grid, targets):
    objective = build_objective(DistillConfig(losses=()), small_grid, 8)
    assert objective(random_output(5), targets) == {}
    assert not list(objective.parameters())


def test_gradient_reaches_the_adapters(random_output, small_grid, targets):
    objective = build_objective(CONFIG, small_grid, 8)
    losses = objective(random_output(5), targets)
    assert list(losses) == ["csrd", "msfd_camera", "msfd_fused", "reld", "respd"]
    assert len(list(objective.parameters())) == 2 * 4
    assert all(grad.any() for grad in torch.autograd.grad(losses["reld"], list(objective.parameters())))


def test_adapters_exist_only_for_a_relation_loss_that_uses_them(small_grid):
    assert len(build_objective(CONFIG, small_grid, 8).adapters) == 2
    without = CONFIG.model_copy(update={"losses": ("csrd",)})
    for config in (NO_ADAPTER, without):
        assert not list(build_objective(config, small_grid, 8).parameters())


def test_relations_without_adapter_allow_teachers_of_another_width(random_output, small_grid, targets):
    config = NO_ADAPTER.model_copy(update={"losses": ("reld",)})
    student = random_output(5)
    wider = dataclasses.replace(student.features, fused=student.features.fused.repeat(1, 2, 1, 1))
    losses = build_objective(config, small_grid, 16)(DetectorOutput(wider, student.head), targets)
    assert losses["reld"].isfinite()


@pytest.mark.parametrize(("missing", "term"), [("radar_activation", "csrd"), ("gated_camera", "msfd_camera")])
def test_a_student_without_a_term_s_map_is_refused(random_output, small_grid, targets, missing, term):
    with pytest.raises(ConfigError, match=term):
        build_objective(CONFIG, small_grid, 8)(_without(random_output(5), missing), targets)


def _lacking(targets, lost):
    return dataclasses.replace(targets, parts={name: part for name, part in targets.parts.items() if name != lost})


@pytest.mark.parametrize(
    ("lost", "term"),
    [
        ("csrd.objectness", "csrd"), ("msfd.camera", "msfd_camera"), ("msfd.fused", "msfd_fused"), ("reld", "reld"),
        ("respd", "respd"),
    ],
)  # fmt: skip
def test_targets_without_a_term_s_part_are_refused(random_output, small_grid, targets, lost, term):
    with pytest.raises(ConfigError, match=f"loss term {term}.*extract"):
        build_objective(CONFIG, small_grid, 8)(random_output(5), _lacking(targets, lost))


def test_another_batch_or_grid_is_refused(random_output, small_grid, targets):
    with pytest.raises(ConfigError, match=r"\(2, 20, 16\)"):
        build_objective(CONFIG, small_grid, 8)(random_output(5, batch=2), targets)
    with pytest.raises(ConfigError, match=r"\(10, 8\)"):
        build_objective(CONFIG, small_grid.with_cell(3.0), 8)(random_output(5), targets)


def test_terms_that_sensors_cannot_give_are_refused_when_building(small_grid, paper_grid):
    camera, lidar = DetectorConfig(modalities=("camera",)), DetectorConfig(modalities=("lidar",))
    plain = DetectorConfig(modalities=("camera", "radar"))
    calibrated = DetectorConfig(modalities=("camera", "radar"), radar=RadarBranchConfig(calibration=True))
    for student in (camera, plain):
        with pytest.raises(ConfigError, match=r"radar\.calibration"):
            build_objective(CONFIG, small_grid, 8, student=student)
    with pytest.raises(ConfigError, match=r"teacher\.modalities are lidar"):
        build_objective(CONFIG, small_grid, 8, student=calibrated, teacher=lidar)
    without_camera = CONFIG.model_copy(update={"msfd": MSFDConfig(camera_weight=0.0)})
    objective = build_objective(without_camera, paper_grid, 8, student=calibrated, teacher=lidar)
    assert objective.scalars == ("csrd", "msfd_fused", "reld", "respd")


def test_maps_of_another_width_are_refused_when_building(paper_grid):
    """A camera alone has 80 channels, a LiDAR 2 heights of 128, a fuser 256."""
    camera, teacher = DetectorConfig(modalities=("camera",)), DetectorConfig(modalities=("camera", "lidar"))
    alone = CONFIG.model_copy(update={"losses": ("msfd", "reld", "respd")})
    with pytest.raises(ConfigError, match=r"80 channels in the student \(camera\) and 256 .*fused_weight to 0"):
        build_objective(alone, paper_grid, 80, student=camera, teacher=teacher)
    camera_only = alone.model_copy(update={"msfd": MSFDConfig(fused_weight=0.0)})
    objective = build_objective(camera_only, paper_grid, 80, student=camera, teacher=teacher)
    assert objective.scalars == ("msfd_camera", "reld", "respd")
    narrow = camera.model_copy(update={"camera": CameraBranchConfig(view_transform=ViewTransformConfig(channels=64))})
    with pytest.raises(ConfigError, match=r"64 channels in the student .*camera_weight to 0"):
        build_objective(camera_only, paper_grid, 64, student=narrow, teacher=teacher)
    assert [fused_channels(DetectorConfig(modalities=(one,)), paper_grid) for one in ("lidar", "radar")] == [256, 256]


def test_the_state_holds_the_adapters_only(small_grid):
    names = set(build_objective(CONFIG, small_grid, 8).state_dict())
    assert names == {f"adapters.{i}.{layer}.{kind}" for i in (0, 1) for layer in (0, 2) for kind in ("weight", "bias")}


def test_adapters_keep_the_names_and_the_order_that_checkpoints_have(small_grid):
    """Optimiser state goes by the order of parameters."""
    both = CONFIG.model_copy(update={"msfd": MSFDConfig(adapter=True)})
    layers = [f"adapters.{scale}.{layer}" for scale in (0, 1) for layer in (0, 2)]
    layers += ["channel_adapters.msfd_camera", "channel_adapters.msfd_fused"]
    names = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    objective = build_objective(both, small_grid, 8, student=CALIBRATED)
    assert list(objective.state_dict()) == names
    assert [name for name, _ in objective.named_parameters()] == names


def test_two_losses_cannot_give_their_adapters_one_name(small_grid):
    with pytest.raises(ValueError, match="two losses call their adapters adapters"):
        DistillationObjective([RelD(RelDConfig()), RelD(RelDConfig())], small_grid)


CALIBRATED = DetectorConfig(
    modalities=("camera", "radar"),
    radar=RadarBranchConfig(calibration=True),
    camera=CameraBranchConfig(view_transform=ViewTransformConfig(channels=5)),
)
ADAPTED = DistillConfig(losses=("msfd",), msfd=MSFDConfig(adapter=True))


def test_msfd_behind_an_adapter_pulls_at_the_student_once_the_adapter_has_learnt(random_output, small_grid, targets):
    objective = build_objective(ADAPTED, small_grid, 8, student=CALIBRATED)
    output = random_output(5)
    maps = [getattr(output.features, name).detach().requires_grad_() for name in ("gated_camera", "fused")]
    features = dataclasses.replace(output.features, gated_camera=maps[0], fused=maps[1])
    student = dataclasses.replace(output, features=features)
    for step in range(2):
        for tensor in (*maps, *objective.parameters()):
            tensor.grad = None
        sum(objective(student, targets).values()).backward()
        assert [bool(tensor.grad.any()) for tensor in maps] == [step > 0] * 2
        with torch.no_grad():
            for parameter in objective.parameters():
                assert parameter.grad.any()
                parameter -= 0.1 * parameter.grad


def test_msfd_behind_an_adapter_is_zero_for_the_teacher_s_channels_in_any_order(random_output, small_grid, targets):
    """Without an adapter it is not; the order of channels says nothing about what a map knows."""
    teacher = random_output(1)
    camera, fused = teacher.features.gated_camera.flip(1), teacher.features.fused.flip(1)
    student = dataclasses.replace(
        teacher, features=dataclasses.replace(teacher.features, gated_camera=camera, fused=fused)
    )
    plain = build_objective(ADAPTED.model_copy(update={"msfd": MSFDConfig()}), small_grid, 8)(student, targets)
    assert list(plain) == ["msfd_camera", "msfd_fused"]
    assert all(term > 0.1 for term in plain.values())
    objective = build_objective(ADAPTED, small_grid, 8, student=CALIBRATED)
    with torch.no_grad():
        for adapter in objective.channel_adapters.values():
            adapter.weight.copy_(torch.eye(adapter.in_channels).flip(1)[:, :, None, None])
    adapted = objective(student, targets)
    for term in plain:
        torch.testing.assert_close(adapted[term], torch.zeros(()), atol=1e-8, rtol=0)


def test_an_msfd_adapter_needs_the_width_of_the_student_s_camera_map(small_grid):
    with pytest.raises(ConfigError, match="msfd_camera needs a camera map"):
        build_objective(ADAPTED, small_grid, 8)
    fused_only = ADAPTED.model_copy(update={"msfd": MSFDConfig(adapter=True, camera_weight=0.0)})
    assert list(build_objective(fused_only, small_grid, 8).channel_adapters) == ["msfd_fused"]
    assert not any(name.startswith("channel") for name in build_objective(CONFIG, small_grid, 8).state_dict())
