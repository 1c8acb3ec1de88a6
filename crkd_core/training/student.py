"""Which student a run trains: its losses, detector, schedule, initial weights and name."""

from dataclasses import dataclass, replace

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.models import DetectorConfig
from crkd_core.config.schema import Config
from crkd_core.config.train import RunConfig
from crkd_core.distillation.losses import prepare_student
from crkd_core.errors import UsageError
from crkd_core.models.detector import Detector
from crkd_core.progress import Progress
from crkd_core.training.initial_weights import InitialWeights, find_backbone, find_start
from crkd_core.training.training_plan import TrainingRequest

STAGE = "distill"
PLAIN, CONTROL, DISTILLED = "plain", "control", "crkd"

# What a distilled student has and the plain student, whose weights it starts from, does not.
_NEW_PARTS = ("radar.calibration.", "radar.activation.")


@dataclass(frozen=True)
class StudentRequest(TrainingRequest):
    """Which student to train.

    Attributes:
        losses: terms of the objective; () is no distillation; None is what the configuration says.
        init: name of the student run to start from; "none" for random weights; "auto" for the plain student where
            there is one (and random weights for the plain student itself).
        name: name of the run; None for ``plain`` (no losses, random weights), ``control`` (no losses, from another
            run), ``crkd`` (all losses) or ``crkd-<losses>``.
    """

    losses: tuple[str, ...] | None = None
    init: str = "auto"
    name: str | None = None


@dataclass(frozen=True)
class Student:
    """A student to be trained.

    Attributes:
        name: of its run.
        config: the resolved configuration; of it, `detector` is trained on `schedule`.
        losses: terms of the objective, in their usual order.
    """

    name: str
    config: Config
    losses: tuple[str, ...]
    detector: DetectorConfig
    schedule: RunConfig
    weights: InitialWeights

    def configured(self, config: Config) -> "Student":
        """The same student with another configuration, whose schedules and parts are the same."""
        plain = self.detector == without_calibration(self.config.student)
        detector = without_calibration(config.student) if plain else config.student
        schedule = config.train.student if self.schedule is self.config.train.student else config.train.distill
        return replace(self, config=config, detector=detector, schedule=schedule)

    def prepare(self, model: Detector) -> None:
        """Give a fresh detector its first weights, and let it learn what the losses look at."""
        self.weights.load(model, may_be_new=_NEW_PARTS)
        prepare_student(model, self.config.distill)


def without_calibration(student: DetectorConfig) -> DetectorConfig:
    """The plain student: the radar calibration comes with distillation."""
    return student.model_copy(update={"radar": student.radar.model_copy(update={"calibration": False})})


def choose_student(request: StudentRequest, workspace: Workspace, progress: Progress) -> Student:
    """The student of a request, with the weights that the workspace has for it.

    Raises:
        UsageError: a loss does not exist, or the run is to start from itself.
        ArtifactError: the weights to start from are missing or cannot be used.
    """
    losses = _choose_losses(request)
    config = _with_losses(request.config, losses)
    init = _choose_init(request, losses, workspace)
    name = request.name or _default_name(losses, is_started=init is not None)
    if not losses and init is None:
        detector, schedule = without_calibration(config.student), config.train.student
    else:
        detector, schedule = config.student, config.train.distill
    if init is not None:
        weights = InitialWeights(find_start(workspace, STAGE, init, name, f"crkd {STAGE} --losses none --name {init}"))
    else:
        weights = InitialWeights(
            backbone=find_backbone(workspace, schedule, detector, f"crkd {STAGE}", progress, request.backbone)
        )
    return Student(name, config, losses, detector, schedule, weights)


def _choose_losses(request: StudentRequest) -> tuple[str, ...]:
    losses = request.config.distill.losses if request.losses is None else request.losses
    unknown = [loss for loss in losses if loss not in LOSS_NAMES]
    if unknown:
        raise UsageError(f"there is no loss called {unknown[0]!r}; expected none, or some of {', '.join(LOSS_NAMES)}.")
    return tuple(loss for loss in LOSS_NAMES if loss in losses)


def _with_losses(config: Config, losses: tuple[str, ...]) -> Config:
    distill = config.distill.model_copy(update={"losses": losses})
    data = config.data
    if "radar_columns" in distill.released_quirks:
        data = data.model_copy(update={"released_radar_augmentation": True})
    return config.model_copy(update={"distill": distill, "data": data})


def _choose_init(request: StudentRequest, losses: tuple[str, ...], workspace: Workspace) -> str | None:
    """The run to start from; None for new weights."""
    if request.init == "auto":
        return PLAIN if losses and PLAIN in workspace.names(STAGE) else None
    return None if request.init == "none" else request.init


def _default_name(losses: tuple[str, ...], is_started: bool) -> str:
    if not losses:
        return CONTROL if is_started else PLAIN
    return DISTILLED if losses == LOSS_NAMES else "-".join((DISTILLED, *losses))
