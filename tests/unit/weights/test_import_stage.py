"""The stage ``import-weights``: what it writes is as good as what was trained here."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crkd_core.artifacts.run_config import read_run_config
from crkd_core.artifacts.shards import read_tensors
from crkd_core.artifacts.status import workspace_status
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config import Config, load_config
from crkd_core.config.loading import with_overrides
from crkd_core.config.models import ResNetConfig, SwinConfig
from crkd_core.errors import ConfigError, MissingArtifactError, StaleArtifactError, UsageError
from crkd_core.models.detector import build_detector
from crkd_core.progress import SilentProgress
from crkd_core.stages.distill import DistillRequest, distill
from crkd_core.stages.evaluate import EvaluateRequest, evaluate
from crkd_core.stages.export_weights import ExportRequest, export_weights
from crkd_core.stages.extract_teacher import ExtractRequest, extract_teacher
from crkd_core.stages.import_weights import ImportRequest, import_weights
from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher
from crkd_core.training.initial_weights import backbone_settings, find_backbone, load_backbone
from crkd_core.training.trained import WEIGHTS_NAME, load_trained
from crkd_core.weights.backbones import backbone_shapes
from crkd_core.weights.published import DistillerParts, export_detector, join_distiller
from crkd_core.weights.shared import find_weights
from tests.support.described import TASKS
from tests.support.published_models import random_state

SILENT = SilentProgress()
TINY = load_config("tiny", None, ["train.workers=0"])


def short(config: Config) -> Config:
    """One epoch and view, at a learning rate that changes nothing to speak of."""
    run = config.train.teacher.model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    runs = {"teacher": run, "student": run, "distill": run, "weight_decay": 0.0}
    targets = config.distill.targets.model_copy(update={"views": 1})
    changes = {
        "train": config.train.model_copy(update=runs),
        "distill": config.distill.model_copy(update={"targets": targets}),
    }
    return config.model_copy(update=changes)


class Listener(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)

    warning = message


def published(workspace: Workspace, stage: str, name: str) -> dict[str, Tensor]:
    """A trained model of a workspace as the published code would have saved it."""
    trained = load_trained(workspace.find(stage, name, needed_for="test", make=""))
    return export_detector(trained.detector.state_dict(), trained.detector_config, trained.config.data)


def save(state: dict[str, Tensor], path: Path, **meta: int) -> Path:
    torch.save({"meta": meta, "state_dict": state}, path)
    return path


def tensors(workspace: Workspace, stage: str, name: str) -> dict[str, Tensor]:
    return read_tensors(workspace.find(stage, name, needed_for="test", make=""), WEIGHTS_NAME)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def files(chain, tmp_path) -> dict[str, Path]:
    """One published file for each role, made from the chain's models."""
    teacher, plain = (
        published(chain.workspace, "train-teacher", "teacher"),
        published(chain.workspace, "distill", "plain"),
    )
    channels = chain.config.student.fuser.channels
    adapters = {f"adapters.{i}.{layer}.bias": torch.randn(channels) for i in range(4) for layer in (0, 2)}
    parts = DistillerParts(teacher, published(chain.workspace, "distill", "crkd"), adapters)
    return {
        "teacher": save(teacher, tmp_path / "teacher.pth", epoch=20, iter=7000),
        "student": save(plain, tmp_path / "student.pth"),
        "distilled": save(join_distiller(parts), tmp_path / "distiller.pth"),
    }


def test_every_later_stage_takes_imported_models(chain, files, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    for role, file in files.items():
        result = import_weights(ImportRequest(file, role, chain.config), workspace, SILENT)
        assert result.model == {"teacher": "teacher_r50", "student": "student_r50", "distilled": "distill_r50"}[role]
        detector = load_trained(result.artifact).detector
        assert result.parameters == sum(parameter.numel() for parameter in detector.parameters())
        assert result.tensors == len(detector.state_dict())
    for stage, name in (("train-teacher", "teacher"), ("distill", "plain"), ("distill", "crkd")):
        assert same(tensors(workspace, stage, name), tensors(chain.workspace, stage, name))
    facts = workspace.find("train-teacher", "teacher", needed_for="test", make="").manifest.facts
    assert (facts["epochs"], facts["steps"]) == (20, 7000)

    shutil.copytree(chain.workspace.root / "prepare", workspace.root / "prepare")
    assert workspace_status(workspace).next_command == f"crkd extract-teacher --workspace {workspace.root}"
    config = short(chain.config)
    extract_teacher(ExtractRequest(config), workspace, SILENT)
    taught = distill(DistillRequest(config, losses=("respd",), teacher="online", name="live"), workspace, SILENT)
    assert set(taught.artifact.manifest.inputs) == {"prepared", "start", "teacher"}
    scored = evaluate(EvaluateRequest(model="crkd", split="val", workers=0), workspace, SILENT)
    assert scored.metrics is not None


def test_a_plain_student_alone_still_has_to_be_taught(chain, files, tmp_path):
    workspace = chain.copy(tmp_path).workspace
    shutil.rmtree(workspace.root / "distill")
    import_weights(ImportRequest(files["student"], "student", chain.config), workspace, SILENT)
    assert workspace_status(workspace).next_command.startswith("crkd distill --config ")


def test_the_teacher_of_a_distiller_can_be_taken_with_a_warning(chain, files, tmp_path):
    listener, workspace = Listener(), Workspace(tmp_path / "workspace")
    import_weights(ImportRequest(files["distilled"], "teacher", chain.config, name="inner"), workspace, listener)
    assert "not the trained one" in listener.said[-1]
    assert same(tensors(workspace, "train-teacher", "inner"), tensors(chain.workspace, "train-teacher", "teacher"))


def test_files_of_another_role_or_model_are_refused_and_nothing_is_written(chain, files, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    with pytest.raises(UsageError, match=r"--as teacher: it is a student_r50; use --as student"):
        import_weights(ImportRequest(files["student"], "teacher", chain.config), workspace, SILENT)
    with pytest.raises(UsageError, match="use --as distilled or --as teacher"):
        import_weights(ImportRequest(files["distilled"], "student", chain.config), workspace, SILENT)
    with pytest.raises(ConfigError, match=r"--preset paper-r50, or set camera\.backbone\.kind=resnet"):
        import_weights(ImportRequest(files["student"], "student", load_config("paper-swint")), workspace, SILENT)
    with pytest.raises(ConfigError, match=r"student\.pth.* of another shape .*instead of \(64, 3, 7, 7\)"):
        import_weights(ImportRequest(files["student"], "student", load_config("paper-r50")), workspace, SILENT)
    narrower = load_config("tiny", None, ["data.grid.x_range_m=[-36, 36]", "data.grid.y_range_m=[-36, 36]"])
    narrower = with_overrides(narrower, ["student.fuser.channels=16", "teacher.fuser.channels=16"])
    with pytest.raises(
        ConfigError, match=r"student\.pth.* of another shape .*Published weights fit --preset paper-r50"
    ):
        import_weights(ImportRequest(files["student"], "student", narrower), workspace, SILENT)
    assert not workspace.root.exists()


def test_an_equal_import_is_reused_and_another_needs_force(chain, files, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    request = ImportRequest(files["student"], "student", chain.config)
    first = import_weights(request, workspace, SILENT).artifact
    assert import_weights(request, workspace, SILENT).artifact.manifest.created == first.manifest.created
    state = torch.load(files["student"], weights_only=True)["state_dict"]
    save(
        {key: tensor + 1 if key.endswith("conv.weight") else tensor for key, tensor in state.items()}, files["student"]
    )
    with pytest.raises(StaleArtifactError, match=r"imported\.sha256"):
        import_weights(request, workspace, SILENT)
    again = import_weights(ImportRequest(files["student"], "student", chain.config, force=True), workspace, SILENT)
    assert again.artifact.manifest.digest != first.manifest.digest


def tiny_backbone(path: Path) -> Path:
    """The tiny preset's backbone as torchvision would save it."""
    torch.manual_seed(7)
    backbone = build_detector(TINY.student, TINY.data, TASKS).camera.backbone
    return save({**backbone.state_dict(), "fc.weight": torch.zeros(10, 128)}, path)


def test_training_starts_from_an_imported_backbone(chain, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(chain.workspace.root / "prepare", workspace.root / "prepare")
    file = tiny_backbone(tmp_path / "imagenet.pth")
    result = import_weights(ImportRequest(file, "backbone", chain.config), workspace, SILENT)
    assert result.artifact.label == "import-weights/imagenet"
    imported = read_tensors(result.artifact, "backbone.safetensors")
    listener, config = Listener(), short(chain.config)
    runs = [
        train_teacher(TrainTeacherRequest(config), workspace, listener),
        distill(DistillRequest(config, losses=()), workspace, listener),
    ]
    assert sum("starts from import-weights/imagenet" in text for text in listener.said) == 2
    for run in runs:
        assert run.artifact.manifest.inputs["backbone"].name == "imagenet"
        trained = tensors(workspace, run.artifact.stage, run.artifact.name)
        for key, tensor in imported.items():
            if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
                assert torch.allclose(trained[f"camera.backbone.{key}"], tensor, atol=1e-6), key


def test_which_backbone_a_run_starts_from(tmp_path):
    workspace, listener = Workspace(tmp_path / "workspace"), Listener()
    run = TINY.train.teacher

    def chosen(detector=TINY.teacher, **changes):
        return find_backbone(workspace, run.model_copy(update=changes), detector, "crkd train-teacher", listener)

    assert chosen() is None
    assert listener.said == []
    paper = load_config("paper-swint").teacher
    assert chosen(paper) is None
    assert "starts from random weights" in listener.said.pop()
    with pytest.raises(MissingArtifactError, match=r"import-weights/other.*crkd import-weights FILE --as backbone"):
        chosen(backbone_weights="other")

    file = tiny_backbone(tmp_path / "first.pth")
    artifact = import_weights(ImportRequest(file, "backbone", TINY), workspace, SILENT).artifact
    assert chosen().label == chosen(backbone_weights="first").label == "import-weights/first"
    assert chosen(backbone_weights="none") is None
    assert chosen(TINY.teacher.model_copy(update={"modalities": ("lidar",)})) is None
    with pytest.raises(ConfigError, match="cannot start this image backbone"):
        chosen(paper, backbone_weights="first")

    lidar_only = build_detector(TINY.teacher.model_copy(update={"modalities": ("lidar",)}), TINY.data, TASKS)
    load_backbone(lidar_only, artifact)
    model = build_detector(TINY.teacher, TINY.data, TASKS)
    load_backbone(model, artifact)
    assert same(model.camera.backbone.state_dict(), read_tensors(artifact, "backbone.safetensors"))


def test_a_backbone_of_another_size_is_refused(tmp_path):
    file = tiny_backbone(tmp_path / "tiny.pth")
    with pytest.raises(ConfigError, match=r"tiny\.pth: the file does not fit the configuration"):
        import_weights(ImportRequest(file, "backbone", load_config("paper-r50")), Workspace(tmp_path), SILENT)
    with pytest.raises(ConfigError, match="has a resnet image backbone and the configuration a swin"):
        import_weights(ImportRequest(file, "backbone", load_config("paper-swint")), Workspace(tmp_path), SILENT)


@pytest.fixture(scope="module")
def backbone_files(tmp_path_factory) -> dict[str, Path]:
    """ImageNet weights of the published backbones, as torchvision and the Swin Transformer's authors save them."""
    folder = tmp_path_factory.mktemp("imagenet")
    resnet = random_state({key: tuple(shape) for key, shape in backbone_shapes(ResNetConfig()).items()})
    swin = random_state({key: tuple(shape) for key, shape in backbone_shapes(SwinConfig()).items()})
    official = {"stages.": "layers.", "patch_embedding.projection": "patch_embed.proj", "mergings.": "layers."}
    changes = {**official, "patch_embedding.norm": "patch_embed.norm", ".attention.": ".attn."}
    named = {}
    for key, tensor in swin.items():
        if not key.startswith("norms."):
            level, *rest = key.split(".")[1:]
            blocks = f"stages.{level}.blocks.{'.'.join(rest)}" if key.startswith("stages.") else key
            name = blocks.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.2.", ".mlp.fc2.")
            name = name.replace(f"mergings.{level}.", f"mergings.{level}.downsample.")
            for before, after in changes.items():
                name = name.replace(before, after)
            named[name] = tensor
    save({**resnet, "fc.weight": torch.zeros(1000, 2048)}, folder / "resnet50.pth")
    torch.save({"model": {**named, "head.weight": torch.zeros(1000, 768)}}, folder / "swint.pth")
    return {"paper-r50": folder / "resnet50.pth", "paper-swint": folder / "swint.pth"}


@pytest.mark.parametrize("preset", ["paper-r50", "paper-swint"])
def test_the_published_configuration_is_chosen_by_the_file(backbone_files, preset, tmp_path):
    workspace, listener = Workspace(tmp_path / "workspace"), Listener()
    result = import_weights(ImportRequest(backbone_files[preset], "backbone"), workspace, listener)
    assert f"the file decides the configuration: --preset {preset}" in listener.said
    expected = load_config(preset).student.camera.backbone
    assert result.artifact.manifest.settings["backbone"] == backbone_settings(expected)
    assert find_backbone(
        workspace, load_config(preset).train.teacher, load_config(preset).teacher, "crkd train-teacher", SILENT
    )
    # A named configuration is not overruled.
    other = load_config("paper-swint" if preset == "paper-r50" else "paper-r50")
    with pytest.raises(ConfigError, match=f"use --preset {preset}"):
        import_weights(ImportRequest(backbone_files[preset], "backbone", other), workspace, SILENT)


def test_the_workspace_decides_where_its_backbone_is_of_the_file_s_kind(chain, backbone_files, files, tmp_path):
    workspace, listener = chain.copy(tmp_path).workspace, Listener()
    import_weights(ImportRequest(files["student"], "student", name="again"), workspace, listener)
    assert same(tensors(workspace, "distill", "again"), tensors(chain.workspace, "distill", "plain"))
    assert not any("decides" in text for text in listener.said)
    # The workspace's ResNet is a small one: the refusal says what would fit, and that works.
    with pytest.raises(ConfigError, match=r"for that size add --set 'student\.camera\.backbone=") as caught:
        import_weights(ImportRequest(backbone_files["paper-r50"], "backbone"), workspace, SILENT)
    override = str(caught.value).split("--set '")[1].split("'")[0]
    request = ImportRequest(backbone_files["paper-r50"], "backbone", overrides=(override,))
    assert import_weights(request, workspace, SILENT).artifact.manifest.settings["backbone"] == backbone_settings(
        ResNetConfig()
    )
    import_weights(ImportRequest(backbone_files["paper-swint"], "backbone"), workspace, listener)
    assert "the file decides the configuration: --preset paper-swint" in listener.said
    with pytest.raises(ConfigError, match=r"no key 'data\.speed'"):
        import_weights(ImportRequest(files["student"], "student", overrides=("data.speed=1",)), workspace, SILENT)


def test_averaged_weights_are_another_import_than_the_plain_ones(files, chain, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    state = torch.load(files["student"], weights_only=True)["state_dict"]
    average = {key: tensor + 1 if key.endswith("conv.weight") else tensor for key, tensor in state.items()}
    torch.save({"state_dict": state, "model_ema": average}, tmp_path / "both.pth")
    plain = ImportRequest(tmp_path / "both.pth", "student", chain.config)
    import_weights(plain, workspace, SILENT)
    assert same(tensors(workspace, "distill", "plain"), tensors(chain.workspace, "distill", "plain"))
    averaged = ImportRequest(tmp_path / "both.pth", "student", chain.config, averaged=True)
    with pytest.raises(StaleArtifactError, match="averaged"):
        import_weights(averaged, workspace, SILENT)
    artifact = import_weights(replace(averaged, name="ema"), workspace, SILENT).artifact
    assert artifact.manifest.command.count("--as student --name ema --ema")
    changed = [key for key in tensors(workspace, "distill", "ema") if key.endswith("shared.0.weight")]
    assert torch.equal(
        tensors(workspace, "distill", "ema")[changed[0]], tensors(workspace, "distill", "plain")[changed[0]] + 1
    )


def test_a_distilled_student_without_its_teacher_is_one_too(chain, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    file = save(published(chain.workspace, "distill", "crkd"), tmp_path / "alone.pth")
    with pytest.raises(UsageError, match="--as student: it is a student_r50; use --as distilled"):
        import_weights(ImportRequest(file, "student", chain.config), workspace, SILENT)
    result = import_weights(ImportRequest(file, "distilled", chain.config), workspace, SILENT)
    assert result.artifact.label == "distill/crkd"
    assert result.artifact.manifest.facts["taught"] is True
    assert same(tensors(workspace, "distill", "crkd"), tensors(chain.workspace, "distill", "crkd"))


def test_the_image_backbone_of_a_detector_starts_training(files, chain, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    result = import_weights(ImportRequest(files["teacher"], "backbone", chain.config), workspace, SILENT)
    trained = load_trained(chain.workspace.find("train-teacher", "teacher", needed_for="test", make=""))
    expected = trained.detector.camera.backbone.state_dict()
    assert same(read_tensors(result.artifact, "backbone.safetensors"), expected)
    with pytest.raises(UsageError, match="holds 2 image backbones"):
        import_weights(ImportRequest(files["distilled"], "backbone", chain.config), workspace, SILENT)


def test_a_resnet_of_caffe_s_style_is_refused(tmp_path):
    state = build_detector(TINY.student, TINY.data, TASKS).camera.backbone.state_dict()
    recipe = "model = dict(backbone=dict(type='ResNet', depth=50, style='caffe'))"
    torch.save({"state_dict": state, "meta": {"config": recipe}}, tmp_path / "caffe.pth")
    with pytest.raises(UsageError, match="a ResNet of Caffe's style"):
        import_weights(ImportRequest(tmp_path / "caffe.pth", "backbone", TINY), Workspace(tmp_path / "w"), SILENT)
    torch.save({"state_dict": state, "meta": {"config": recipe.replace("caffe", "pytorch")}}, tmp_path / "torch.pth")
    assert import_weights(ImportRequest(tmp_path / "torch.pth", "backbone", TINY), Workspace(tmp_path / "w"), SILENT)


def test_shared_weights_tell_where_they_came_from_and_go_on(chain, tmp_path):
    """Every later stage takes them, in a workspace that was told no configuration."""
    trained, workspace = chain.copy(tmp_path / "trained").workspace, Workspace(tmp_path / "workspace")
    scored = evaluate(EvaluateRequest(model="teacher", workers=0), trained, SILENT).metrics
    for role, name in (("teacher", "teacher"), ("student", "plain")):
        file = tmp_path / f"{name}.safetensors"
        result = export_weights(ExportRequest(name, file, "shared"), trained, SILENT)
        manifest = find_weights(file).manifest
        assert result.manifest == file.with_suffix(".json")
        assert (manifest.epochs, manifest.split) == (1, "train")
        assert manifest.trained_on.simulation["samples_per_scene"] == 2
        assert manifest.commands[0].startswith("crkd prepare")
        import_weights(ImportRequest(file, role), workspace, SILENT)
    scores = find_weights(tmp_path / "teacher.safetensors").manifest.scores
    assert [(score.split, score.mean_ap) for score in scores] == [("mini_val", round(scored.mean_ap, 4))]
    assert manifest.scores == ()

    teacher = workspace.find("train-teacher", "teacher", needed_for="test", make="")
    assert (teacher.manifest.facts["epochs"], read_run_config(teacher)) == (1, chain.config)
    shutil.copytree(chain.workspace.root / "prepare", workspace.root / "prepare")
    config = short(read_run_config(teacher))
    extract_teacher(ExtractRequest(config), workspace, SILENT)
    taught = distill(DistillRequest(config, losses=("respd",), name="taught"), workspace, SILENT)
    assert taught.artifact.manifest.inputs["start"].name == "plain"
