"""What holds for every loss in every variant, computed as in training: a teacher's targets, the objective's terms.

Zero on equal input, no gradient to the teacher, inputs unchanged, no boxes at all, boxes partly or wholly outside the
grid, unknown velocities, a batch of one, half precision.
"""

import dataclasses

import pytest
import torch

from crkd_core.config.distill import LOSS_NAMES, CSRDConfig, DistillConfig, MSFDConfig, RelDConfig, RespDConfig
from crkd_core.distillation.losses import build_targets
from crkd_core.distillation.objective import build_objective
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.models.outputs import DetectorOutput

SCALES = (8, 4)
# At 300 the dot product of a cell's eight channels is 720,000; half precision ends at 65,504.
LARGE, SATURATED = 300.0, 60.0


def _alone(loss: str, **section) -> DistillConfig:
    return DistillConfig(losses=(loss,), reld=RelDConfig(scales=SCALES)).model_copy(update=section)


CASES = {
    **{f"{name} as configured": _alone(name) for name in LOSS_NAMES},
    "csrd paper": _alone("csrd", csrd=CSRDConfig(reading="paper")),
    "csrd by objects": _alone("csrd", csrd=CSRDConfig(object_weight=1.0)),
    "csrd from lidar": _alone("csrd", csrd=CSRDConfig(target="lidar_feature")),
    **{
        f"msfd {reading} {mask}": _alone("msfd", msfd=MSFDConfig(reading=reading, mask=mask))
        for reading in ("released", "paper")
        for mask in ("rotated", "released", "plain")
    },
    **{
        f"reld {reading} {affinity}": _alone("reld", reld=RelDConfig(scales=SCALES, reading=reading, affinity=affinity))
        for reading in ("released", "paper")
        for affinity in ("dot", "cosine")
    },
    "respd by parts": _alone("respd", respd=RespDConfig(box_weights=(1.0, 1.0, 0.5, 0.1))),
    "respd paper": _alone("respd", respd=RespDConfig(reading="paper")),
    "all released": _alone("csrd", losses=LOSS_NAMES),
    "all paper": DistillConfig(
        csrd=CSRDConfig(reading="paper"),
        msfd=MSFDConfig(reading="paper"),
        reld=RelDConfig(scales=SCALES, reading="paper", affinity="cosine"),
        respd=RespDConfig(reading="paper"),
    ),
}
every_reading = pytest.mark.parametrize("config", CASES.values(), ids=CASES.keys())


@pytest.fixture
def compute(small_grid):
    """The terms of one step, and the targets they were computed from."""

    def run(config, student, teacher, boxes):
        torch.manual_seed(0)
        targets = build_targets(teacher, boxes, small_grid, config)
        return build_objective(config, small_grid, 8)(student, targets), targets

    return run


def _maps(output: DetectorOutput) -> list[torch.Tensor]:
    features, tasks = output.features, output.head.tasks
    maps = [features.gated_camera, features.gated_points, features.fused, features.radar_activation]
    return maps + [getattr(task, field.name) for task in tasks for field in dataclasses.fields(task)]


def _total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


def _gradients(terms, output: DetectorOutput) -> list[torch.Tensor | None]:
    return list(torch.autograd.grad(_total(terms), _maps(output), allow_unused=True))


def _with_velocity(boxes: list[Boxes3D], value: float) -> list[Boxes3D]:
    changed = [part.tensor.clone() for part in boxes]
    for tensor in changed:
        tensor[:, 7:] = torch.where(tensor[:, 7:].isnan(), value, tensor[:, 7:])
    return [Boxes3D(tensor) for tensor in changed]


@every_reading
def test_zero_on_equal_input(compute, random_output, random_boxes, config):
    teacher, boxes = random_output(1), random_boxes(2)
    config = config.model_copy(update={"reld": config.reld.model_copy(update={"adapter": False})})
    _, targets = compute(config, teacher, teacher, boxes)
    objectness = targets.parts.get("csrd.objectness")
    activation = teacher.features.radar_activation if objectness is None else objectness.values[:, None]
    student = DetectorOutput(dataclasses.replace(teacher.features, radar_activation=activation), teacher.head)
    terms, _ = compute(config, student, teacher, boxes)
    assert terms
    assert all(term == 0 for term in terms.values()), terms


@every_reading
def test_gradient_reaches_the_student_and_never_the_teacher_and_inputs_are_unchanged(
    compute, random_output, random_boxes, config
):
    student, teacher, boxes = random_output(5), random_output(1), random_boxes(2)
    inputs = [*_maps(student), *_maps(teacher), *(part.tensor for part in boxes)]
    before = [tensor.detach().clone() for tensor in inputs]
    terms, _ = compute(config, student, teacher, boxes)
    reached = [gradient for gradient in _gradients(terms, student) if gradient is not None]
    assert reached
    assert all(gradient.isfinite().all() and gradient.any() for gradient in reached)
    terms, _ = compute(config, student, teacher, boxes)
    assert all(gradient is None for gradient in _gradients(terms, teacher))
    assert all(torch.equal(now.nan_to_num(), then.nan_to_num()) for now, then in zip(inputs, before, strict=True))


@every_reading
def test_no_boxes_at_all(compute, random_output, config):
    student = random_output(5)
    terms, _ = compute(config, student, random_output(1), [Boxes3D.empty() for _ in range(3)])
    for name, term in terms.items():
        assert term.isfinite(), name
        assert (term == 0) == name.startswith("msfd"), name
    assert all(gradient is None or gradient.isfinite().all() for gradient in _gradients(terms, student))


@every_reading
def test_boxes_outside_the_grid_do_not_count_and_those_across_its_border_do(compute, random_output, small_grid, config):
    student, teacher, nothing = random_output(5), random_output(1), [Boxes3D.empty() for _ in range(3)]
    beyond = Boxes3D(torch.tensor([[30.0, 0, 0, 2, 4, 2, 0.3, 1, 0], [0, -40.0, 0, 2, 4, 2, 1.0, 0, 0]]))
    across = Boxes3D(torch.tensor([[15.0, 0, 0, 6, 6, 2, 1.5, 1, 0], [0, -12.2, 0, 6, 6, 2, 1.5, 0, 0]]))
    expected, _ = compute(config, student, teacher, nothing)
    outside, _ = compute(config, student, teacher, [beyond] * 3)
    partly, _ = compute(config, student, teacher, [across] * 3)
    for name, term in outside.items():
        assert torch.equal(term, expected[name]), name
        assert partly[name].isfinite()
        assert (partly[name] > expected[name]) == name.startswith("msfd"), name


@every_reading
def test_an_unknown_velocity_counts_as_none(compute, random_output, random_boxes, config):
    student, teacher, boxes = random_output(5), random_output(1), random_boxes(2)
    assert any(part.velocity.isnan().any() for part in boxes)
    unknown, _ = compute(config, student, teacher, boxes)
    still, _ = compute(config, student, teacher, _with_velocity(boxes, 0.0))
    for name, term in unknown.items():
        assert term.isfinite()
        assert torch.equal(term, still[name]), name


@every_reading
def test_a_batch_of_one_and_of_the_same_sample_twice(compute, random_output, random_boxes, config):
    """The released readings of MSFD and RelD divide by the batch size once more; all other terms are means."""
    student, teacher, boxes = random_output(5, batch=1), random_output(1, batch=1), random_boxes(2)[:1]
    one, _ = compute(config, student, teacher, boxes)
    two, _ = compute(config, _twice(student), _twice(teacher), boxes * 2)
    for name, term in one.items():
        loss = name.partition("_")[0]
        halved = loss in ("msfd", "reld") and getattr(config, loss).reading == "released"
        assert term > 0, name
        torch.testing.assert_close(two[name] * (2 if halved else 1), term, rtol=1e-5, atol=0, msg=name)


def _twice(value):
    if isinstance(value, torch.Tensor):
        return torch.cat([value, value])
    if isinstance(value, tuple):
        return tuple(_twice(item) for item in value)
    changes = {field.name: _twice(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return dataclasses.replace(value, **changes)


@every_reading
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_maps_are_compared_in_float32(compute, random_output, random_boxes, config, dtype):
    boxes = random_boxes(2)
    exact, _ = compute(config, random_output(5), random_output(1), boxes)
    student, teacher = random_output(5, dtype=dtype), random_output(1, dtype=dtype)
    half, targets = compute(config, student, teacher, boxes)
    with torch.autocast("cpu", dtype=dtype):
        autocast, _ = compute(config, student, teacher, boxes)
    for name, term in half.items():
        assert term.dtype == torch.float32, name
        assert torch.equal(term, autocast[name]), name
        torch.testing.assert_close(term, exact[name], rtol=5e-3 if dtype == torch.float16 else 0.05, atol=0, msg=name)
    kept = [tensor for sample in targets.split() for tensor in sample.encode("fp32").values()]
    assert {tensor.dtype for tensor in kept} <= {torch.float32, torch.int32}


@every_reading
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_values_beyond_half_precision_stay_finite(compute, random_output, random_boxes, config, dtype):
    student, teacher = random_output(5, dtype=dtype), random_output(1, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        terms, _ = compute(config, _extreme(student), _extreme(teacher), random_boxes(2))
    assert all(term.isfinite() for term in terms.values()), terms
    # Two such maps lie so far apart that only a gradient scaled down, as a GradScaler would, fits into fp16.
    scaled = {name: term * 1e-6 for name, term in terms.items()}
    assert all(gradient is None or gradient.isfinite().all() for gradient in _gradients(scaled, student))


def _extreme(output: DetectorOutput) -> DetectorOutput:
    """The same with saturated heatmaps and maps whose affinities half precision cannot hold."""
    large = ("fused", "gated_camera", "gated_points", "radar_activation")
    features = {name: getattr(output.features, name) * LARGE for name in large}
    tasks = tuple(
        dataclasses.replace(task, heatmap_logits=task.heatmap_logits.sign() * SATURATED) for task in output.head.tasks
    )
    return DetectorOutput(
        dataclasses.replace(output.features, **features), dataclasses.replace(output.head, tasks=tasks)
    )
