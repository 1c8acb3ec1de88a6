"""Stage ``distill``: the camera-radar student, with any subset of the four losses or none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from crkd_core.artifacts.shards import TensorShards, read_tensors
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.models import DetectorConfig, Modality
from crkd_core.config.schema import Config
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.prepared import PreparedData
from crkd_core.distillation.objective import build_objective
from crkd_core.errors import StaleArtifactError, UsageError
from crkd_core.models.detector import Detector
from crkd_core.progress import Progress
from crkd_core.stages.extract import STAGE as EXTRACT_STAGE
from crkd_core.stages.extract import target_settings
from crkd_core.stages.inputs import open_prepared
from crkd_core.stages.pretrained import find_backbone, load_backbone
from crkd_core.stages.runs import RunSpec, TrainResult, run_training
from crkd_core.training.steps import DetectionStep, DistillationStep, FrozenTeacher, StoredTargets, TargetSource
from crkd_core.training.trained import WEIGHTS_NAME, load_trained

STAGE = "distill"
PLAIN, CONTROL, DISTILLED = "plain", "control", "crkd"


@dataclass(frozen=True)
class DistillRequest:
    """How to train the student.

    Attributes:
        losses: terms of the objective; () is no distillation; None is what the configuration says.
        teacher: take the teacher targets from the cache, or run the teacher in every step.
        targets: name of the teacher targets; None for the latest.
        init: name of the student run to start from; "none" for random weights; "auto" for the plain student where
            there is one (and random weights for the plain student itself).
        name: name of the run; None for ``plain`` (no losses, random weights), ``control`` (no losses, from another
            run), ``crkd`` (all losses) or ``crkd-<losses>``.
    """

    config: Config
    losses: tuple[str, ...] | None = None
    teacher: Literal["cache", "online"] = "cache"
    targets: str | None = None
    init: str = "auto"
    name: str | None = None
    prepared: str | None = None
    nuscenes: Path | None = None
    device: str = "auto"
    force: bool = False
    resume: bool = True


def distill(request: DistillRequest, workspace: Workspace, progress: Progress) -> TrainResult | None:
    """Train the student: L = L_det + 100 L_csrd + 10 L_msfd(camera) + 10 L_msfd(fused) + 0.25 L_reld + L_respd.

    Without losses it is the plain student (baseline), or, from the plain student's weights, the equal-epoch control.
    In cache mode no LiDAR file is opened. Returns None on every process but the first of a distributed run.

    Raises:
        MissingArtifactError: prepared data, teacher targets or the run to start from are missing.
        StaleArtifactError: the targets were made with another teacher, grid or loss settings.
    """
    losses = _checked_losses(request)
    config = _resolved(request.config, losses)
    start = _find_start(request, losses, workspace)
    plain = not losses and start is None
    detector = without_calibration(config.student) if plain else config.student
    teacher = _TeacherInput(request, config, workspace) if losses else None
    modalities = detector.modalities if teacher is None else teacher.with_own(detector.modalities)
    prepared = open_prepared(workspace, request.prepared, request.nuscenes, config.data, modalities, f"crkd {STAGE}")
    if teacher is not None:
        teacher.check_fits(prepared, workspace)
    if losses and start is None:
        progress.warning(
            "the workspace has no plain student to start from, so the student starts from random weights; "
            f"the published recipe trains one first: crkd {STAGE} --losses none"
        )
    dataset = SampleDataset(
        prepared,
        prepared.tokens("train"),
        config.data,
        modalities,
        bev=config.data.augment_student,
        seed=config.train.seed,
        targets=teacher.shards if teacher is not None else None,
    )
    name = request.name or _default_name(losses, start)
    run = config.train.student if plain else config.train.distill
    backbone = find_backbone(workspace, run, detector, f"crkd {STAGE}", progress) if start is None else None
    made_from = {"prepared": prepared.artifact, "start": start, "backbone": backbone}
    inputs = {role: artifact.reference() for role, artifact in made_from.items() if artifact is not None}
    if teacher is not None:
        inputs[teacher.input_role] = teacher.artifact.reference()
    spec = RunSpec(
        stage=STAGE,
        name=name,
        role="student",
        command=_command(request, losses, name),
        config=config,
        detector=detector,
        run=run,
        inputs=inputs,
        options={
            "distill": config.distill.model_dump(mode="json") if losses else None,
            "teacher": request.teacher if losses else None,
        },
    )
    progress.message(
        f"{name}: {'no distillation' if not losses else ' + '.join(losses)}, "
        f"from {start.label if start else 'new weights'}, {spec.run.epochs} epochs, {len(dataset)} samples"
    )

    def build_step(model: Detector, device: torch.device) -> nn.Module:
        grid = config.data.grid.build()
        if start is not None:
            load_start(model, start)
        elif backbone is not None:
            load_backbone(model, backbone)
        if "csrd" not in losses and model.radar is not None and model.radar.activation is not None:
            model.radar.activation.requires_grad_(False)
        if teacher is None:
            return DetectionStep(model, detector.head, grid)
        objective = build_objective(config.distill, grid, model.fused_channels, detector, teacher.detector_config)
        return DistillationStep(model, detector.head, grid, objective, teacher.source(device))

    return run_training(
        spec,
        build_step,
        dataset,
        workspace,
        progress,
        request.device,
        request.force,
        request.resume,
        views=teacher.views if teacher is not None else None,
    )


def without_calibration(student: DetectorConfig) -> DetectorConfig:
    """The plain student: the radar calibration comes with distillation."""
    return student.model_copy(update={"radar": student.radar.model_copy(update={"calibration": False})})


def load_start(model: Detector, start: Artifact) -> None:
    """Load another student's weights; only the radar calibration may be new.

    Raises:
        StaleArtifactError: the other run was a different detector.
    """
    weights = read_tensors(start, WEIGHTS_NAME)
    own = model.state_dict()
    missing = [
        name for name in own if name not in weights and not name.startswith(("radar.calibration.", "radar.activation."))
    ]
    unexpected = [name for name in weights if name not in own]
    reshaped = [name for name in weights if name in own and weights[name].shape != own[name].shape]
    if missing or unexpected or reshaped:
        examples = ", ".join((missing + unexpected + reshaped)[:3])
        raise StaleArtifactError(
            f"{start.label} cannot start this student: it was another detector ({len(missing)} tensors "
            f"missing, {len(unexpected)} "
            f"unexpected, {len(reshaped)} of another shape, such as {examples}); train it again with this "
            f"configuration."
        )
    model.load_state_dict(weights, strict=False)


# How many views are stored, and how precisely, is the targets' own affair.
_FREE_SETTINGS = {"losses", "views", "storage"}


class _TeacherInput:
    """Where the teacher's side of the losses comes from: stored targets or the live teacher."""

    def __init__(self, request: DistillRequest, config: Config, workspace: Workspace) -> None:
        self.online = request.teacher == "online"
        self._config = config
        self.shards: TensorShards | None = None
        self.views: int | None = None
        needed_for = f"crkd {STAGE}"
        if self.online:
            self.input_role = "teacher"
            self.artifact = workspace.find("train-teacher", None, needed_for=needed_for, make="crkd train-teacher")
            return
        if "teacher_train_mode" in config.distill.released_quirks:
            raise UsageError("the quirk teacher_train_mode needs the live teacher; add --teacher online.")
        self.input_role = "targets"
        self.artifact = workspace.find(
            EXTRACT_STAGE, request.targets, needed_for=needed_for, make=f"crkd {EXTRACT_STAGE}"
        )
        self.shards = TensorShards(self.artifact)
        self.views = int(self.artifact.manifest.facts["views"])

    @property
    def detector_config(self) -> DetectorConfig:
        """The teacher's detector, also where only its targets are at hand."""
        return (
            self._config.teacher
            if not self.online
            else DetectorConfig.model_validate(self.artifact.manifest.settings["detector"])
        )

    def with_own(self, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
        """The student's modalities, and the live teacher's."""
        return tuple(dict.fromkeys((*modalities, *(self.detector_config.modalities if self.online else ()))))

    def check_fits(self, prepared: PreparedData, workspace: Workspace) -> None:
        """Refuse targets or a teacher that belong to other data, another grid or other loss settings."""
        stored = self.artifact.manifest
        # An imported teacher was made from no prepared data of this workspace.
        made_from = stored.inputs.get("prepared")
        if made_from is not None and made_from != prepared.artifact.reference():
            raise StaleArtifactError(
                f"{self.artifact.label} was made from {made_from.name}, and this run uses "
                f"{prepared.artifact.label}; make it again with: {stored.command} --force"
            )
        if self.online:
            wanted, found = self._config.data.grid.model_dump(mode="json"), stored.settings["data"]["grid"]
            if wanted != found:
                raise StaleArtifactError(
                    f"the teacher {self.artifact.label} has another BEV grid: expected "
                    f"{_first_difference(wanted, found)}; use its configuration, or train another one with: "
                    "crkd train-teacher --name NEW"
                )
            return
        self._check_settings(stored.settings)

    def _check_settings(self, stored: dict[str, Any]) -> None:
        wanted = target_settings(self._config)
        absent = [loss for loss in wanted["losses"] if loss not in stored["losses"]]
        if absent:
            raise StaleArtifactError(
                f"{self.artifact.label} holds nothing for the losses {', '.join(absent)} (it has "
                f"{', '.join(stored['losses'])}); make it again with: crkd {EXTRACT_STAGE} --force"
            )
        for key, value in wanted.items():
            if key not in _FREE_SETTINGS and stored.get(key) != value:
                raise StaleArtifactError(
                    f"{self.artifact.label} was made with other settings of {key}: expected "
                    f"{_first_difference(value, stored.get(key))}; use those settings, or make it again with: "
                    f"crkd {EXTRACT_STAGE} --force"
                )

    def source(self, device: torch.device) -> TargetSource:
        """What gives the training step its teacher targets."""
        if not self.online:
            return StoredTargets(device)
        teacher = load_trained(self.artifact, device)
        quirk = "teacher_train_mode" in self._config.distill.released_quirks
        return FrozenTeacher(teacher.detector, self._config.data.grid.build(), self._config.distill, train_mode=quirk)


def _checked_losses(request: DistillRequest) -> tuple[str, ...]:
    losses = request.config.distill.losses if request.losses is None else request.losses
    unknown = [loss for loss in losses if loss not in LOSS_NAMES]
    if unknown:
        raise UsageError(f"there is no loss called {unknown[0]!r}; expected none, or some of {', '.join(LOSS_NAMES)}.")
    return tuple(loss for loss in LOSS_NAMES if loss in losses)


def _resolved(config: Config, losses: tuple[str, ...]) -> Config:
    distill = config.distill.model_copy(update={"losses": losses})
    data = config.data
    if "radar_columns" in distill.released_quirks:
        data = data.model_copy(update={"released_radar_augmentation": True})
    return config.model_copy(update={"distill": distill, "data": data})


def _find_start(request: DistillRequest, losses: tuple[str, ...], workspace: Workspace) -> Artifact | None:
    if request.init == "none" or (request.init == "auto" and not losses):
        return None
    name = PLAIN if request.init == "auto" else request.init
    if request.init == "auto" and not any(artifact.name == PLAIN for artifact in workspace.artifacts(STAGE)):
        return None
    return workspace.find(STAGE, name, needed_for=f"crkd {STAGE}", make=f"crkd {STAGE} --losses none --name {name}")


def _default_name(losses: tuple[str, ...], start: Artifact | None) -> str:
    if not losses:
        return PLAIN if start is None else CONTROL
    return DISTILLED if losses == LOSS_NAMES else "-".join((DISTILLED, *losses))


def _command(request: DistillRequest, losses: tuple[str, ...], name: str) -> str:
    parts = [f"crkd {STAGE}", f"--losses {','.join(losses) or 'none'}", f"--name {name}"]
    if request.init != "auto":
        parts.append(f"--init {request.init}")
    if request.teacher != "cache":
        parts.append(f"--teacher {request.teacher}")
    return " ".join(parts)


def _first_difference(expected: object, found: object, path: str = "") -> str:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys(), key=str):
            if expected.get(key) != found.get(key):
                return _first_difference(expected.get(key), found.get(key), f"{path}.{key}" if path else str(key))
    return f"{path + ' = ' if path else ''}{expected}, found {found}"
