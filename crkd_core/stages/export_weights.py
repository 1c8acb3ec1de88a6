"""Stage ``export-weights``: a trained model as a file that the published code's tools know, or that says what it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crkd_core import __version__
from crkd_core.artifacts.command import Command
from crkd_core.artifacts.find_model import find_model
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import record_file
from crkd_core.artifacts.run_config import CONFIG_NAME
from crkd_core.artifacts.shards import write_tensors
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.schema import Config
from crkd_core.config.split_names import TRAIN
from crkd_core.errors import ConfigError, UsageError
from crkd_core.progress import Progress
from crkd_core.training.trained import load_trained
from crkd_core.weights.catalogue import MANIFEST_SUFFIX, WEIGHTS_SUFFIX
from crkd_core.weights.matching import BUFFERS
from crkd_core.weights.provenance import commands_of, data_set, scores_of
from crkd_core.weights.published import check_exportable, export_detector, lost_settings
from crkd_core.weights.recognise import Recognised, recognise
from crkd_core.weights.shared import WeightsManifest, half_precision, write_manifest

Format = Literal["published", "shared"]


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes:
        run: name of a trained model, or ``stage/name``.
        file: a new ``.safetensors`` file; existing folders are not needed.
        format: ``published``: names, layouts and constants of the released code's checkpoints, as ``import-weights``
            reads them; ``shared``: the same in half precision, with a manifest beside it.
        force: replace an existing file.
        revision: of the code, for the manifest; None where it is not known.
    """

    run: str
    file: Path
    format: Format = "published"
    force: bool = False
    revision: str | None = None


@dataclass(frozen=True)
class ExportResult:
    """An exported model.

    Attributes:
        artifact: the model.
        file: what was written; `manifest` beside it, None where the format has none.
        model: what ``import-weights`` recognises it as, such as ``teacher_r50``; `import_command` reads it back.
        tensors: number of tensors written; `parameters`: numbers in those that training changes by gradients.
    """

    artifact: Artifact
    file: Path
    model: str
    import_command: Command
    tensors: int
    parameters: int
    manifest: Path | None = None


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
    recognised = recognise(exported)
    import_command = Command("import-weights", (str(absolute(request.file)),)).setting("--as", recognised.role)
    if request.format == "shared":
        write_tensors(request.file, half_precision(exported), {"format": "pt"})
        manifest = write_manifest(request.file, _describe(request, artifact, trained.config, recognised, workspace))
    else:
        manifest = None
        for setting in lost_settings(detector):
            progress.warning(f"the released code has no {setting}, with which {artifact.label} was trained")
        write_tensors(request.file, exported, {"format": "pt"})
        import_command = import_command.setting("--config", absolute(artifact.path / CONFIG_NAME))
    return ExportResult(
        artifact=artifact,
        file=request.file,
        model=recognised.model,
        import_command=import_command,
        tensors=len(exported),
        parameters=sum(tensor.numel() for name, tensor in weights.items() if not name.endswith(BUFFERS)),
        manifest=manifest,
    )


def _describe(
    request: ExportRequest, artifact: Artifact, config: Config, recognised: Recognised, workspace: Workspace
) -> WeightsManifest:
    """What the manifest says of written weights."""
    facts, data = artifact.manifest.facts, data_set(workspace, artifact.manifest.inputs.get("prepared"))
    return WeightsManifest(
        name=request.file.stem,
        role=recognised.role,
        model=recognised.model,
        weights=record_file(request.file),
        trained_on=data,
        split=artifact.manifest.settings.get("split", TRAIN) if data is not None else None,
        epochs=facts.get("epochs"),
        steps=facts.get("steps"),
        scores=scores_of(workspace, artifact),
        commands=commands_of(workspace, artifact),
        version=__version__,
        revision=request.revision,
        config=config.model_dump(mode="json"),
    )


def _check_file(request: ExportRequest) -> None:
    if request.file.suffix != WEIGHTS_SUFFIX:
        raise UsageError(
            f"{request.file} would be written as safetensors, no pickle; give --out a name ending in {WEIGHTS_SUFFIX}"
        )
    if request.file.is_dir():
        raise UsageError(
            f"{request.file} is a folder; give --out the name of a file, such as {request.run}{WEIGHTS_SUFFIX}"
        )
    manifest = request.file.with_suffix(MANIFEST_SUFFIX)
    for file in (request.file, manifest) if request.format == "shared" else (request.file,):
        if file.exists() and not request.force:
            raise UsageError(f"{file} exists; give --out another name, or replace it with --force")
