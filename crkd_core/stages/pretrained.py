"""What image backbones start training from: imported weights (``crkd import-weights --as backbone``) or random ones."""

from typing import Any

from crkd_core.artifacts.shards import read_tensors
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.models import DetectorConfig, ResNetConfig, SwinConfig, TimmConfig
from crkd_core.config.train import RunConfig
from crkd_core.errors import ConfigError
from crkd_core.models.detector import Detector
from crkd_core.progress import Progress

STAGE = "import-weights"
BACKBONE_NAME = "backbone.safetensors"
_MAKE = f"crkd {STAGE} FILE --as backbone"
# The backbones whose ImageNet weights are published: starting them from random weights is rarely meant.
_PUBLISHED = (ResNetConfig(), SwinConfig())


def backbone_settings(config: ResNetConfig | SwinConfig | TimmConfig) -> dict[str, Any]:
    """What of a backbone's configuration its weights depend on."""
    return config.model_dump(mode="json", exclude={"drop_path"})


def find_backbone(
    workspace: Workspace, run: RunConfig, detector: DetectorConfig, needed_for: str, progress: Progress
) -> Artifact | None:
    """The imported weights that a run's image backbone starts from, as ``run.backbone_weights`` says.

    Raises:
        MissingArtifactError: there are no imported weights of that name.
        ConfigError: they are of another backbone.
    """
    if "camera" not in detector.modalities or run.backbone_weights == "none":
        return None
    wanted = backbone_settings(detector.camera.backbone)
    if run.backbone_weights != "auto":
        artifact = workspace.find(STAGE, run.backbone_weights, needed_for=needed_for, make=_MAKE)
        if artifact.manifest.settings["backbone"] != wanted:
            raise ConfigError(
                f"{artifact.label} cannot start this image backbone: expected weights for {wanted}, found "
                f"{artifact.manifest.settings['backbone']}; change camera.backbone or backbone_weights"
            )
        return artifact
    fitting = [found for found in workspace.artifacts(STAGE) if found.manifest.settings["backbone"] == wanted]
    if fitting:
        artifact = workspace.find(STAGE, fitting[-1].name, needed_for=needed_for, make=_MAKE)
        progress.message(f"the image backbone starts from {artifact.label}")
        return artifact
    if wanted in [backbone_settings(published) for published in _PUBLISHED]:
        progress.warning(
            "the image backbone starts from random weights; the published recipe starts from ImageNet weights, which "
            f"this imports: {_MAKE}"
        )
    return None


def load_backbone(model: Detector, artifact: Artifact) -> None:
    """Put imported weights into a detector's image backbone.

    Raises:
        DamagedArtifactError: they cannot be read or are not what the manifest says.
    """
    if model.camera is None:
        return
    try:
        model.camera.backbone.load_state_dict(read_tensors(artifact, BACKBONE_NAME))
    except RuntimeError as error:
        raise artifact.damaged(BACKBONE_NAME, str(error).splitlines()[-1].strip()) from None
