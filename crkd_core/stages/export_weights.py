"""Stage ``export-weights``: a trained model as a file that the published code's tools know."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.find_model import find_model
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.run_config import CONFIG_NAME
from crkd_core.artifacts.shards import write_tensors
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.errors import ConfigError, UsageError
from crkd_core.progress import Progress
from crkd_core.training.trained import load_trained
from crkd_core.weights.matching import BUFFERS
from crkd_core.weights.published import check_exportable, export_detector, lost_settings
from crkd_core.weights.recognise import recognise

Format = Literal["published"]
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes:
        run: name of a trained model, or ``stage/name``.
        file: a new ``.safetensors`` file; existing folders are not needed.
        format: ``published``: names, layouts and constants of the released code's checkpoints, as ``import-weights``
            reads them.
        force: replace an existing file.
    """

    run: str
    file: Path
    format: Format = "published"
    force: bool = False


@dataclass(frozen=True)
class ExportResult:
    """An exported model.

    Attributes:
        artifact: the model.
        file: what was written.
        model: what ``import-weights`` recognises it as, such as ``teacher_r50``; `import_command` reads it back.
        tensors: number of tensors written; `parameters`: numbers in those that training changes by gradients.
    """

    artifact: Artifact
    file: Path
    model: str
    import_command: Command
    tensors: int
    parameters: int


def export_weights(request: ExportRequest, workspace: Workspace, progress: Progress) -> ExportResult:
    """Write one model's weights, whole or not at all; no pickle, so that opening the file never runs code.

    Raises:
        UsageError: the file exists, or has another suffix.
        ConfigError: the format cannot hold the model.
        MissingArtifactError, StaleArtifactError, DamagedArtifactError: the model cannot be used.
        WriteError: the file cannot be written.
    """
    _check_file(request)
    artifact = find_model(workspace, request.run, needed_for="crkd export-weights")
    trained = load_trained(artifact)
    detector, data = trained.detector_config, trained.config.data
    try:
        check_exportable(detector)
        weights = trained.detector.state_dict()
        exported = export_detector(weights, detector, data)
    except ConfigError as error:
        raise ConfigError(f"{artifact.label} cannot be exported: {error}") from None
    for setting in lost_settings(detector):
        progress.warning(f"the released code has no {setting}, with which {artifact.label} was trained")
    write_tensors(request.file, exported, {"format": "pt"})
    recognised = recognise(exported)
    return ExportResult(
        artifact=artifact,
        file=request.file,
        model=recognised.model,
        import_command=Command("import-weights", (str(absolute(request.file)),))
        .setting("--as", recognised.role)
        .setting("--config", absolute(artifact.path / CONFIG_NAME)),
        tensors=len(exported),
        parameters=sum(tensor.numel() for name, tensor in weights.items() if not name.endswith(BUFFERS)),
    )


def _check_file(request: ExportRequest) -> None:
    if request.file.suffix != SUFFIX:
        raise UsageError(
            f"{request.file} would be written as safetensors, no pickle; give --out a name ending in {SUFFIX}"
        )
    if request.file.is_dir():
        raise UsageError(f"{request.file} is a folder; give --out the name of a file, such as {request.run}{SUFFIX}")
    if request.file.exists() and not request.force:
        raise UsageError(f"{request.file} exists; give --out another name, or replace it with --force")
