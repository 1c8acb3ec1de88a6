"""What a training run starts from: another run's weights (``--init``), an imported image backbone or random weights."""

from dataclasses import dataclass
from typing import Any

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.shards import read_tensors
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.models import BackboneConfig, DetectorConfig, ResNetConfig, SwinConfig
from crkd_core.config.train import RunConfig
from crkd_core.errors import ConfigError, StaleArtifactError, UsageError
from crkd_core.models.detector import Detector
from crkd_core.progress import Progress, format_count
from crkd_core.training.trained import WEIGHTS_NAME

STAGE = "import-weights"
BACKBONE_NAME = "backbone.safetensors"
_MAKE = f"crkd {STAGE} FILE --as backbone"
# The backbones whose ImageNet weights are published: starting them from random weights is rarely meant.
_PUBLISHED = (ResNetConfig(), SwinConfig())


def backbone_settings(config: BackboneConfig) -> dict[str, Any]:
    """What of a backbone's configuration its weights depend on."""
    return config.model_dump(mode="json", exclude={"drop_path"})


@dataclass(frozen=True)
class InitialWeights:
    """What a detector begins with.

    Attributes:
        start: the finished run whose weights it takes over; None for random ones.
        backbone: imported weights of its image backbone, where the others are random.
    """

    start: Artifact | None = None
    backbone: Artifact | None = None

    @property
    def inputs(self) -> dict[str, Artifact]:
        """As the manifest names them."""
        artifacts = {"start": self.start, "backbone": self.backbone}
        return {role: artifact for role, artifact in artifacts.items() if artifact is not None}

    @property
    def init(self) -> str:
        """The value of ``--init``."""
        return "none" if self.start is None else self.start.name

    def load(self, model: Detector, may_be_new: tuple[str, ...] = ()) -> None:
        """Give a fresh detector its weights; see :func:`load_start` and :func:`load_backbone`."""
        if self.start is not None:
            load_start(model, self.start, may_be_new)
        elif self.backbone is not None:
            load_backbone(model, self.backbone)

    def pin_backbone(self, command: Command, detector: DetectorConfig) -> Command:
        """The command of a run, such that its backbone starts from the same weights whatever is imported later."""
        if self.start is not None:
            return command.without("--backbone")
        if "camera" not in detector.modalities:
            return command
        return command.setting("--backbone", "none" if self.backbone is None else self.backbone.name)


def find_backbone(
    workspace: Workspace,
    schedule: RunConfig,
    detector: DetectorConfig,
    needed_for: str,
    progress: Progress,
    chosen: str | None = None,
) -> Artifact | None:
    """The imported weights that a run's image backbone starts from.

    Args:
        chosen: their name, or none; None for what ``schedule.backbone_weights`` says.

    Raises:
        MissingArtifactError: there are no imported weights of that name.
        ConfigError: they are of another backbone.
    """
    name = chosen or schedule.backbone_weights
    if "camera" not in detector.modalities or name == "none":
        return None
    expected = backbone_settings(detector.camera.backbone)
    if name != "auto":
        artifact = workspace.find(STAGE, name, needed_for=needed_for, make=_MAKE)
        if artifact.manifest.settings["backbone"] != expected:
            raise ConfigError(
                f"{artifact.label} cannot start this image backbone: expected weights for {expected}, found "
                f"{artifact.manifest.settings['backbone']}; change camera.backbone or backbone_weights"
            )
        return artifact
    newest = workspace.newest_first(STAGE)
    fitting = next((imported for imported in newest if imported.manifest.settings["backbone"] == expected), None)
    if fitting is not None:
        artifact = workspace.find(STAGE, fitting.name, needed_for=needed_for, make=_MAKE)
        progress.message(f"the image backbone starts from {artifact.label}")
        return artifact
    if expected in [backbone_settings(published) for published in _PUBLISHED]:
        progress.warning(
            "the image backbone starts from random weights; the published recipe starts from ImageNet weights, which "
            f"this imports: {workspace.command(_MAKE)}"
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


def find_start(workspace: Workspace, stage: str, init: str, name: str, make: str) -> Artifact:
    """The finished run called `init` whose weights the run `name` of the same stage begins with.

    Raises:
        MissingArtifactError: there is none; `make` makes it.
        StaleArtifactError: what it was made from has been remade since.
        UsageError: the run is to start from itself.
    """
    if init == name:
        raise UsageError(
            f"{stage}/{name} cannot start from itself; give the new run another name, such as --name {name}-more."
        )
    return workspace.find(stage, init, needed_for=f"crkd {stage}", make=make)


def load_start(model: Detector, start: Artifact, may_be_new: tuple[str, ...] = ()) -> None:
    """Begin with the weights of a finished run; only parts whose names begin with one of `may_be_new` keep their own.

    Raises:
        DamagedArtifactError: its weights cannot be read or are not what the manifest says.
        StaleArtifactError: it was a different detector.
    """
    weights = read_tensors(start, WEIGHTS_NAME)
    own = model.state_dict()
    missing = [name for name in own if name not in weights and not name.startswith(may_be_new)]
    unexpected = [name for name in weights if name not in own]
    reshaped = [name for name in weights if name in own and weights[name].shape != own[name].shape]
    if missing or unexpected or reshaped:
        kinds = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
        counts = ", ".join(f"{format_count(len(names), 'tensor')} {kind}" for kind, names in kinds.items() if names)
        raise StaleArtifactError(
            f"{start.label} cannot start this {start.manifest.settings['role']}: it was another detector ({counts}, "
            f"such as {(missing + unexpected + reshaped)[0]}); train it again with this configuration, or choose "
            "another --init."
        )
    model.load_state_dict(weights, strict=False)
