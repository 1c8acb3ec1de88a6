"""Every tensor of the six published models has a counterpart in this package, and the other way round."""

from collections import Counter
from math import prod

import pytest
import torch
from torch import Tensor

from crkd_core.distillation.objective import build_objective
from crkd_core.errors import ConfigError
from crkd_core.models.detector import build_detector
from crkd_core.weights.naming import our_name, published_name
from crkd_core.weights.published import detector_shapes, join_distiller, published_constants, split_distiller
from tests.support.described import NUSCENES, TASKS
from tests.support.published_models import MODELS, load_model


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_is_mapped_both_ways(name):
    model = load_model(name)
    state = model.empty()
    detectors: dict[str, dict[str, Tensor]] = {name.split("_")[0]: state}
    mapped = 0
    if name.startswith("distill"):
        parts = split_distiller(state)
        assert join_distiller(parts).keys() == state.keys()
        assert {key: tuple(tensor.shape) for key, tensor in parts.adapters.items()} == adapter_shapes(model)
        detectors = {"teacher": parts.teacher, "student": parts.student}
        mapped = len(parts.adapters)
    for role, published in detectors.items():
        config = model.detector(role)
        expected = detector_shapes(config, model.config.data, NUSCENES)
        constants = published_constants(config, model.config.data)
        names = {key: our_name(key) for key in published if key not in constants}
        assert set(names.values()) == set(expected)
        assert {key: published_name(renamed) for key, renamed in names.items()} == {key: key for key in names}
        assert {key: tuple(expected[renamed]) for key, renamed in names.items()} == {
            key: tuple(published[key].shape) for key in names
        }
        for key, constant in constants.items():
            assert (constant.shape, constant.dtype) == (published[key].shape, published[key].dtype)
        mapped += len(names) + len(constants)
    assert mapped == len(state)


def adapter_shapes(model) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        objective = build_objective(model.config.distill, model.config.data.grid.build(), 256)
    return {name: tuple(tensor.shape) for name, tensor in objective.state_dict().items()}


@pytest.mark.parametrize("name", MODELS)
def test_trained_parameters_are_the_published_ones(name):
    model = load_model(name)
    role = "teacher" if name.startswith("teacher") else "student"
    with torch.device("meta"):
        detector = build_detector(model.detector(role), model.config.data, TASKS)
    trained = [tuple(parameter.shape) for parameter in detector.parameters() if parameter.requires_grad]
    if name.startswith("distill"):
        trained += adapter_shapes(model).values()
    assert Counter(trained) == Counter(model.trained().values())
    if "n_trainable" in model.meta:
        assert sum(prod(shape) for shape in trained) == model.meta["n_trainable"]


def test_names_of_other_models_are_not_mapped():
    assert our_name("pts_bbox_head.shared_conv.weight") is None
    assert published_name("camera.somewhere.weight") is None
    with pytest.raises(ConfigError, match="1 of its tensors belong to neither"):
        split_distiller({"encoders_student.a.weight": torch.zeros(1), "aux.weight": torch.zeros(1)})
