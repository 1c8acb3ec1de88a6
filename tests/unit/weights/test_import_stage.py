"""The stage ``import-weights``: what it writes is as good as what was trained here."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crkd_core.artifacts.shards import read_tensors
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config import Config, load_config
from crkd_core.errors import ConfigError, MissingArtifactError, StaleArtifactError, UsageError
from crkd_core.models.detector import build_detector
from crkd_core.progress import SilentProgress
from crkd_core.stages.distill import DistillRequest, distill
from crkd_core.stages.evaluate import EvaluateRequest, evaluate
from crkd_core.stages.extract import ExtractRequest, extract_teacher
from crkd_core.stages.import_weights import ImportRequest, import_weights
from crkd_core.stages.pretrained import find_backbone, load_backbone
from crkd_core.stages.status import workspace_status
from crkd_core.stages.train import TrainTeacherRequest, train_teacher
from crkd_core.training.trained import WEIGHTS_NAME, load_trained
from crkd_core.weights.published import DistillerParts, export_detector, join_distiller

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
    with pytest.raises(
        ConfigError, match=r"student\.pth.* of another shape .*Published weights fit --preset paper-r50"
    ):
        import_weights(ImportRequest(files["student"], "student", load_config("paper-r50")), workspace, SILENT)
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
    backbone = build_detector(TINY.student, TINY.data).camera.backbone
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

    def found(detector=TINY.teacher, **changes):
        return find_backbone(workspace, run.model_copy(update=changes), detector, "crkd train-teacher", listener)

    assert found() is None
    assert listener.said == []
    paper = load_config("paper-swint").teacher
    assert found(paper) is None
    assert "starts from random weights" in listener.said.pop()
    with pytest.raises(MissingArtifactError, match=r"import-weights/other.*crkd import-weights FILE --as backbone"):
        found(backbone_weights="other")

    file = tiny_backbone(tmp_path / "first.pth")
    artifact = import_weights(ImportRequest(file, "backbone", TINY), workspace, SILENT).artifact
    assert found().label == found(backbone_weights="first").label == "import-weights/first"
    assert found(backbone_weights="none") is None
    assert found(TINY.teacher.model_copy(update={"modalities": ("lidar",)})) is None
    with pytest.raises(ConfigError, match="cannot start this image backbone"):
        found(paper, backbone_weights="first")

    lidar_only = build_detector(TINY.teacher.model_copy(update={"modalities": ("lidar",)}), TINY.data)
    load_backbone(lidar_only, artifact)
    model = build_detector(TINY.teacher, TINY.data)
    load_backbone(model, artifact)
    assert same(model.camera.backbone.state_dict(), read_tensors(artifact, "backbone.safetensors"))


def test_a_backbone_of_another_size_is_refused(tmp_path):
    file = tiny_backbone(tmp_path / "tiny.pth")
    with pytest.raises(ConfigError, match=r"tiny\.pth: the file does not fit the configuration"):
        import_weights(ImportRequest(file, "backbone", load_config("paper-r50")), Workspace(tmp_path), SILENT)
    with pytest.raises(ConfigError, match="has a resnet image backbone and the configuration a swin"):
        import_weights(ImportRequest(file, "backbone", load_config("paper-swint")), Workspace(tmp_path), SILENT)
