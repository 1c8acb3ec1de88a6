"""Weights with a manifest: what is rounded, what is recorded, and which configuration an import gets."""

import pytest
import torch

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config import load_config
from crkd_core.errors import ConfigError
from crkd_core.progress import SilentProgress
from crkd_core.weights.catalogue import FOLDER, WEIGHTS_SUFFIX, shipped_file, shipped_names
from crkd_core.weights.checkpoint_files import CheckpointFile
from crkd_core.weights.configuring import ImportCommand, choose_config
from crkd_core.weights.importing import PublishedCheckpoint
from crkd_core.weights.provenance import portable
from crkd_core.weights.recognise import Recognised
from crkd_core.weights.shared import WeightsFile, find_weights, half_precision

SILENT = SilentProgress()
MOST_BYTES = 10_000_000


def test_matrices_are_halved_and_vectors_kept():
    state = {
        "conv.weight": torch.randn(4, 3, 3, 3),
        "norm.running_var": torch.tensor([1e-7, 1e6]),
        "norm.num_batches_tracked": torch.tensor(100_000),
        "indices": torch.tensor([[70_000]]),
    }
    halved = half_precision(state)
    assert halved["conv.weight"].dtype == torch.float16
    torch.testing.assert_close(halved["conv.weight"].float(), state["conv.weight"], rtol=1e-3, atol=1e-6)
    for key in list(state)[1:]:
        assert halved[key].dtype == state[key].dtype
        assert torch.equal(halved[key], state[key])


def test_what_half_precision_cannot_hold_is_refused():
    with pytest.raises(ConfigError, match=r"1 of its tensors \(large\); use --format published"):
        half_precision({"large": torch.full((2, 2), 1e5), "small": torch.ones(2, 2)})


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (
            "crkd train-teacher --config /home/me/w/configs/ladder-b0c7.yaml --name teacher --workspace /w",
            "crkd train-teacher --config ladder-b0c7.yaml --name teacher",
        ),
        ("crkd prepare --nuscenes '/my data/world' --radar-sweeps 6", "crkd prepare --radar-sweeps 6"),
        ("crkd import-weights /tmp/it.pth --as teacher", "crkd import-weights it.pth --as teacher"),
        ("something else /tmp/x", "something else /tmp/x"),
    ],
)
def test_recorded_commands_lose_what_holds_on_one_machine(recorded, expected):
    assert portable(recorded) == expected


@pytest.mark.parametrize(("kind", "preset"), [("resnet", "paper-r50"), ("swin", "paper-swint")])
@pytest.mark.parametrize("is_typed", [True, False])
def test_the_command_names_the_preset_that_the_file_chose(tmp_path, kind, preset, is_typed):
    """Not the default one: the command would refuse the file."""
    checkpoint = PublishedCheckpoint(
        WeightsFile(tmp_path / "it.pth", "it.pth"),
        "student",
        Recognised("student", kind),
        CheckpointFile({}, None, None),
    )
    given = Command("import-weights", (), (("--set", "train.seed=3"),)) if is_typed else None
    asked = ImportCommand("import-weights", "plain", given, overrides=("train.seed=3",))
    config, command = choose_config(asked, checkpoint, Workspace(tmp_path / "w"), SILENT)
    assert config == load_config(preset, None, ["train.seed=3"])
    assert command.get("--preset") == (preset if is_typed else None)
    assert command.has("--config") is not is_typed


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_models_are_what_their_manifests_say(name):
    weights = find_weights(shipped_file(name))
    assert weights.manifest is not None
    assert weights.manifest.name == name
    assert weights.manifest.role in name
    assert weights.manifest.trained_on.simulation["seed"] == 1000
    assert weights.manifest.scores
    assert weights.manifest.revision
    assert weights.config().model_dump(mode="json") == weights.manifest.config
    assert "/" not in "".join(weights.manifest.commands)


def test_shipped_models_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob(f"*{WEIGHTS_SUFFIX}")) <= MOST_BYTES
