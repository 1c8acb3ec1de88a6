"""Which of a file's values are the weights: containers, averaged weights, wrappers' prefixes, unusual tensors."""

import warnings

import pytest
import torch

from crkd_core.errors import UsageError
from crkd_core.weights.checkpoint_files import read_checkpoint_file

PLAIN = {"conv1.weight": torch.zeros(2), "layer1.0.weight": torch.ones(2), "bn1.running_mean": torch.ones(2)}
AVERAGE = {key: tensor + 5 for key, tensor in PLAIN.items()}


def prefixed(state, prefix):
    return {prefix + key: tensor for key, tensor in state.items()}


def read(tmp_path, values, averaged=False):
    torch.save(values, tmp_path / "file.pth")
    return read_checkpoint_file(tmp_path / "file.pth", averaged)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "container",
    ["state_dict", "model", "model_state_dict", "net", "network", "params", "weights", "module", "detector"],
)
def test_weights_are_found_in_their_container(tmp_path, container):
    training = {"epoch": 3, "loss": torch.tensor(0.5), "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}
    assert same(read(tmp_path, {**training, container: PLAIN}).state, PLAIN)
    assert same(read(tmp_path, {"state_dict": {container: PLAIN}, **training}).state, PLAIN)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module.module.", "_orig_mod.module.", "_fsdp_wrapped_module.", "module._orig_mod."],
)
def test_components_of_wrappers_are_taken_out_of_names(tmp_path, prefix):
    assert same(read(tmp_path, {"state_dict": prefixed(PLAIN, prefix)}).state, PLAIN)
    inside = {key.replace("layer1.", f"layer1.{prefix}"): tensor for key, tensor in PLAIN.items()}
    assert same(read(tmp_path, inside).state, PLAIN)


def test_other_prefixes_stay_for_the_model_to_be_recognised_by(tmp_path):
    state = prefixed(PLAIN, "model.")
    assert same(read(tmp_path, {"state_dict": prefixed(state, "module.")}).state, state)


@pytest.mark.parametrize(
    "container", ["ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "swa_model"]
)
@pytest.mark.parametrize("wrapped", [
    lambda state: state,
    lambda state: {**prefixed(state, "module."), "n_averaged": torch.tensor(7)},
    lambda state: {"module": state, "updates": 7},
    lambda state: {"state_dict": prefixed(state, "module."), "decay": 0.999},
])  # fmt: skip
def test_averaged_weights_are_taken_when_asked_for(tmp_path, container, wrapped):
    values = {"model": prefixed(PLAIN, "module."), container: wrapped(AVERAGE)}
    plain = read(tmp_path, values)
    assert same(plain.state, PLAIN)
    assert plain.notes == (f"the file holds averaged weights too ({container}); --ema takes them",)
    averaged = read(tmp_path, values, averaged=True)
    assert same(averaged.state, AVERAGE)
    assert averaged.notes == (f"the averaged weights are taken ({container})",)
    del values["model"]
    with pytest.raises(UsageError, match=rf"holds averaged weights only \({container}\); take them with --ema"):
        read(tmp_path, values)
    assert same(read(tmp_path, values, averaged=True).state, AVERAGE)


@pytest.mark.parametrize("prefix", ["ema_model.", "model_ema.module.", "module.ema_model."])
def test_averaged_weights_within_one_state_dict(tmp_path, prefix):
    values = {"state_dict": {**PLAIN, **prefixed(AVERAGE, prefix)}, "pytorch-lightning_version": "2.0"}
    assert same(read(tmp_path, values).state, PLAIN)
    assert same(read(tmp_path, values, averaged=True).state, AVERAGE)


def test_mmcv_keeps_averages_of_parameters_under_flat_names_and_may_have_exchanged_them(tmp_path):
    parameters = {key: tensor for key, tensor in AVERAGE.items() if "running" not in key}
    flat = {"ema_" + key.replace(".", "_"): tensor for key, tensor in parameters.items()}
    values = {"state_dict": {**PLAIN, **flat}, "meta": {"epoch": 4, "iter": 8}}
    for averaged, expected in ((False, PLAIN), (True, {**PLAIN, **parameters})):
        file = read(tmp_path, values, averaged)
        assert same(file.state, expected)
        assert "either may be the average" in file.notes[0]
        assert (file.epochs, file.steps) == (4, 8)


@pytest.mark.parametrize("averaged", [False, True])
def test_mmengine_keeps_the_average_as_state_dict(tmp_path, averaged):
    values = {
        "meta": {"mmengine_version": "0.10.4", "epoch": 1},
        "state_dict": AVERAGE,
        "ema_state_dict": {**prefixed(PLAIN, "module."), "steps": torch.tensor(3)},
    }
    file = read(tmp_path, values, averaged)
    assert same(file.state, AVERAGE)
    assert "mmengine keeps the averaged weights as state_dict" in file.notes[0]


def test_averaged_weights_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"holds no averaged weights .* leave out --ema"):
        read(tmp_path, {"state_dict": PLAIN, "model_ema": None}, averaged=True)


def looped():
    first, second = {}, {}
    first["state_dict"], second["model"] = second, first
    return first


def own():
    values: dict = {"epoch": 1}
    values["state_dict"] = values
    return values


def listed():
    values: dict = {}
    values["model"] = [values]
    return values


def deep():
    values: dict = {"state_dict": PLAIN}
    for _ in range(200):
        values = {"model": values}
    return values


def branching():
    values: dict = {}
    for _ in range(60):
        values = {"model": values, "net": values, "other": values}
    return values


@pytest.mark.parametrize("make", [looped, own, listed, deep, branching])
def test_containers_that_lead_nowhere_are_refused(tmp_path, make):
    with pytest.raises(UsageError, match="holds no named tensors"):
        read(tmp_path, make())


def test_a_container_that_also_holds_itself_is_read(tmp_path):
    values: dict = {"state_dict": dict(PLAIN)}
    values["all"] = values
    assert same(read(tmp_path, values).state, PLAIN)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}}, "only an optimiser's state"),
        ({"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}, "only an optimiser's state"),
        ({"state_dict": {}}, "only 'state_dict'"),
        ({}, "only an empty dictionary"),
        ([torch.zeros(2)], "but one list"),
        (torch.zeros(2), "but one Tensor"),
        ({"student": PLAIN, "teacher": AVERAGE}, r"holds several state dicts \(student, teacher\)"),
        ({"a.b": torch.zeros(1), "module.a.b": torch.ones(1)}, "holds a.b twice"),
    ],
)
def test_files_without_one_state_dict_are_refused(tmp_path, values, words):
    with pytest.raises(UsageError, match=words):
        read(tmp_path, values)


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.eye(3).to_sparse(), "1 sparse or nested"),
        (lambda: torch.eye(3).to_sparse_csr(), "1 sparse or nested"),
        (lambda: torch.empty(3, device="meta"), "1 meta, without data"),
        (quantised, "1 quantised"),
    ],
)
@pytest.mark.parametrize("averaged", [False, True])
def test_tensors_without_plain_values_are_refused(tmp_path, make, words, averaged):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = {**PLAIN, "fc.weight": make()}
        torch.save({"state_dict": state, "model_ema": state}, tmp_path / "file.pth")
    with pytest.raises(UsageError, match=rf"{words} \(fc\.weight\); save dense ones in floating point"):
        read_checkpoint_file(tmp_path / "file.pth", averaged)
