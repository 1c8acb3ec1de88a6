"""Stage ``ablate``: the paper's ladder and design comparisons over seeds, as one table."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.configuration import pin_configuration
from crkd_core.artifacts.run_config import read_detector_config
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.loading import with_overrides
from crkd_core.config.models import Modality
from crkd_core.config.numbers import MOST_SEED
from crkd_core.config.schema import Config
from crkd_core.config.split_names import TRAIN
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import STAGE as PREPARE_STAGE
from crkd_core.datasets.prepared.source import PreparedSource, find_prepared, open_prepared, pin_machine, prepared_with
from crkd_core.distillation.requirements import check_terms
from crkd_core.errors import UsageError, quoted
from crkd_core.evaluation.identity import STAGE as EVALUATE_STAGE
from crkd_core.evaluation.identity import Subject, evaluations_of
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.progress import Progress, SilentProgress
from crkd_core.stages.ablate.rows import COMPARISONS, Row, Variant, canonical, published_backbone
from crkd_core.stages.ablate.table import ScoredRow, score_row, write_tables
from crkd_core.stages.distill import STAGE as DISTILL_STAGE
from crkd_core.stages.distill import DistillRequest, distill
from crkd_core.stages.evaluate import EvaluateRequest, EvaluateResult, evaluate
from crkd_core.stages.extract import ExtractRequest, extract_teacher
from crkd_core.stages.train_teacher import STAGE as TEACHER_STAGE
from crkd_core.teacher_cache.settings import STAGE as EXTRACT_STAGE
from crkd_core.teacher_cache.settings import check_teacher, target_settings
from crkd_core.teacher_cache.teacher_input import settings_problem
from crkd_core.training.distributed import ProcessGroup, choose_device, process_group

STAGE = "ablate"
State = Literal["finished", "unfinished", "to do"]


@dataclass(frozen=True)
class AblateRequest:
    """What to compare.

    Attributes:
        config: the resolved configuration that every row changes in its own way.
        comparisons: of ``ablate_rows.COMPARISONS``.
        seeds: every student is trained once with each as ``train.seed``; the teacher and its targets are the same.
        set_after: ``section.field=value`` settings on top of `config` for the students that go on from a plain one: the
            control and the distilled ones.
        split: what the students are scored on.
        teacher: name of the teacher; None for the latest.
        name: name of the result; None for one after the comparisons.
        force: train, score and compare everything anew, with the targets that are there.
        command: as it was given, for the manifest; None where there was none.
    """

    config: Config
    comparisons: tuple[str, ...] = ("ladder",)
    seeds: tuple[int, ...] = (0, 1, 2)
    set_after: tuple[str, ...] = ()
    split: str = "val"
    teacher: str | None = None
    name: str | None = None
    prepared: str | None = None
    nuscenes: Path | None = None
    device: str = "auto"
    force: bool = False
    resume: bool = True
    command: Command | None = None


@dataclass(frozen=True)
class AblateResult:
    """A finished ablation: its artifact with the tables, the rows, and whose published cells stand beside them."""

    artifact: Artifact
    rows: tuple[ScoredRow, ...]
    backbone: str


@dataclass(frozen=True)
class PlannedRun:
    """One student of an ablation: what it is, how long it trains, and how far its training and scoring are."""

    name: str
    losses: tuple[str, ...]
    start: str | None
    epochs: int
    trained: State
    scored: State


def ablate(request: AblateRequest, workspace: Workspace, progress: Progress) -> AblateResult | None:
    """Train and score every student of the comparisons for every seed, and put them into one table.

    Every student, every set of teacher targets and every evaluation is an ordinary artifact of its stage, called
    ``ablate-...``: what is finished is reused, what was stopped is continued, and rows that describe the same student
    share it. One extraction serves all seeds. Returns None on every process but the first of a distributed run.

    Raises:
        MissingArtifactError: there is no teacher, or nothing is prepared.
        UsageError: there are no such comparisons or seeds, or the split has no annotations.
        ConfigError: a row, or what `set_after` says, does not fit the configuration.
        StaleArtifactError: a student of that name was trained with other settings.
    """
    check_ablation(request, workspace)
    work = _Ablation(request, workspace)
    with process_group(request.device) as processes:
        scores = work.run(processes, progress if processes.is_first else SilentProgress())
        return work.write(scores, progress) if processes.is_first else None


def check_ablation(request: AblateRequest, workspace: Workspace) -> None:
    """Refuse at once whatever would end an ablation only after students were trained; nothing is written.

    Raises:
        MissingArtifactError: there is no teacher, or nothing is prepared.
        UsageError: a name, split, seed, comparison or device is none.
        ConfigError: a row does not fit the configuration, the teacher or the prepared data.
        StaleArtifactError: the teacher has another grid or other images.
        DatasetError: a split is empty, or the folder of the sensor files is not there.
    """
    _Ablation(request, workspace).check()


def plan_ablation(request: AblateRequest, workspace: Workspace) -> tuple[PlannedRun, ...]:
    """The students that :func:`ablate` needs, in its order; nothing is written.

    Raises:
        UsageError: there are no such comparisons or seeds, or the prepared data have no such split.
        ConfigError: a row, or what `set_after` says, does not fit the configuration.
    """
    return tuple(_Ablation(request, workspace).plan())


class _Ablation:
    def __init__(self, request: AblateRequest, workspace: Workspace) -> None:
        self._request = _checked(request)
        self._workspace = workspace
        workspace.folder(STAGE, self._name)
        # Before any student is there that another command would take its configuration from.
        self._configured = pin_configuration(request.command, STAGE, self._name, request.config, workspace)
        self._continued = with_overrides(request.config, request.set_after, option="--set-after")
        self._rows: list[tuple[str, Row, Variant]] = [
            (comparison, row, self._canonical(row.variant))
            for comparison in request.comparisons
            for row in COMPARISONS[comparison]
        ]

    @property
    def _name(self) -> str:
        return self._request.name or "-".join(self._request.comparisons)

    def check(self) -> None:
        """See :func:`check_ablation`."""
        request, needed_for = self._request, f"crkd {STAGE}"
        choose_device(request.device)
        configs = {variant: variant.resolve(self._base(variant), seed) for variant, seed in self._students}
        modalities = tuple(dict.fromkeys(name for config in configs.values() for name in config.student.modalities))
        source = PreparedSource(TRAIN)

        def fitting(config: Config, needed: tuple[Modality, ...]) -> PreparedData:
            return open_prepared(
                self._workspace, request.prepared, request.nuscenes, config.data, needed, needed_for, source
            )

        prepared = [fitting(config, modalities) for config in configs.values()][-1]
        prepared.tokens(TRAIN)
        self._check_split()
        taught = [config for variant, config in configs.items() if variant.losses]
        if not taught:
            return
        make = "crkd train-teacher"
        teacher = self._workspace.find("train-teacher", request.teacher, needed_for=needed_for, make=make)
        check_teacher(teacher, request.config, request.command)
        detector = read_detector_config(teacher)
        for config in taught:
            check_terms(config.distill, config.data.grid.build(), config.student, detector)
            if self._fitting_targets(config, teacher, prepared.artifact) is None:
                fitting(config, detector.modalities)

    def _check_split(self) -> None:
        request, source = self._request, PreparedSource(self._request.split)
        PreparedData(find_prepared(self._workspace, request.prepared, f"crkd {STAGE}", source)).tokens(request.split)

    @property
    def _students(self) -> Iterator[tuple[Variant, int]]:
        """Every student once, seed by seed, each after the one that it starts from."""
        chosen: dict[Variant, None] = {}
        for _, _, variant in self._rows:
            for needed in (variant.start, variant):
                if needed is not None:
                    chosen.setdefault(self._canonical(needed))
        return ((variant, seed) for seed in self._request.seeds for variant in chosen)

    def plan(self) -> Iterator[PlannedRun]:
        if self._request.prepared is not None or self._workspace.artifacts(PREPARE_STAGE):
            self._check_split()
        for variant, seed in self._students:
            config, name = variant.resolve(self._base(variant), seed), _run_name(variant, seed)
            yield PlannedRun(
                name=name,
                losses=variant.losses,
                start=self._start_name(variant, seed),
                epochs=(config.train.student if variant.start is None else config.train.distill).epochs,
                trained=self._state(DISTILL_STAGE, name),
                scored=self._state(EVALUATE_STAGE, self._evaluation_name(name)),
            )

    def _evaluation_name(self, run: str) -> str:
        of_split = evaluations_of(self._workspace, self._request.split)
        own = [found.name for found in of_split if Subject.of(found) == Subject(run, DISTILL_STAGE)]
        return own[-1] if own else f"{run}-{self._request.split}"

    def _state(self, stage: str, name: str) -> State:
        there = [artifact for artifact in self._workspace.artifacts(stage) if artifact.name == name]
        if there and self._workspace.staleness(there[0]) is None:
            return "finished"
        return "unfinished" if name in self._workspace.partial_names(stage) else "to do"

    def _base(self, variant: Variant) -> Config:
        """What a variant changes in its own way."""
        return self._request.config if variant.start is None else self._continued

    def _canonical(self, variant: Variant) -> Variant:
        return canonical(variant, self._base(variant))

    def _start_name(self, variant: Variant, seed: int) -> str | None:
        return None if variant.start is None else _run_name(self._canonical(variant.start), seed)

    def run(self, processes: ProcessGroup, progress: Progress) -> dict[tuple[Variant, int], EvaluateResult]:
        """Bring every student to its scores; other processes than the first have none."""
        scores, students = {}, list(self._students)
        for number, (variant, seed) in enumerate(students, start=1):
            progress.message(f"student {number} of {len(students)}: {_run_name(variant, seed)}")
            self._train(variant, seed, processes, progress)
            # The others must not look for the student before the first process has put it in its place.
            processes.barrier()
            if processes.is_first:
                scores[variant, seed] = self._evaluate(variant, seed, progress)
            processes.barrier()
        return scores

    def _train(self, variant: Variant, seed: int, processes: ProcessGroup, progress: Progress) -> None:
        request, config = self._request, variant.resolve(self._base(variant), seed)
        student = DistillRequest(
            config=config,
            losses=variant.losses,
            targets=self._find_targets(variant, config, processes, progress) if variant.losses else None,
            init=self._start_name(variant, seed) or "none",
            name=_run_name(variant, seed),
            prepared=request.prepared,
            nuscenes=request.nuscenes,
            device=request.device,
            force=request.force,
            resume=request.resume,
        )
        distill(student, self._workspace, progress)

    def _find_targets(self, variant: Variant, config: Config, processes: ProcessGroup, progress: Progress) -> str:
        """The latest teacher targets that fit a variant, extracted first where there are none."""
        request, find = self._request, partial(self._workspace.find, needed_for=f"crkd {STAGE}")
        teacher = find("train-teacher", request.teacher, make="crkd train-teacher")
        source = PreparedSource(TRAIN, teacher.manifest.inputs.get("prepared"))
        prepared = find_prepared(self._workspace, request.prepared, f"crkd {STAGE}", source)
        fitting = self._fitting_targets(config, teacher, prepared)
        if fitting is not None:
            return fitting
        name = f"{STAGE}-{variant.name}"
        of_all_losses = with_overrides(self._continued, [f"distill.losses=[{', '.join(LOSS_NAMES)}]"])
        own, common = target_settings(config), target_settings(of_all_losses)
        if all(common[key] == value for key, value in own.items() if key != "losses"):
            config, name = of_all_losses, f"{STAGE}-targets"
        extraction = ExtractRequest(
            config,
            teacher.name,
            name,
            request.prepared,
            request.nuscenes,
            request.device,
            # What bears the name by now was found not to fit: an ablation's own targets of an earlier teacher.
            force=any(artifact.name == name for artifact in self._workspace.artifacts(EXTRACT_STAGE)),
            resume=request.resume,
        )
        processes.barrier()
        extract_teacher(extraction, self._workspace, progress)
        processes.barrier()
        return name

    def _fitting_targets(self, config: Config, teacher: Artifact, prepared: Artifact) -> str | None:
        """The latest teacher targets that fit a configuration, if there are any."""
        made_from = {"teacher": teacher.reference(), "prepared": prepared.reference()}
        for artifact in reversed(self._workspace.artifacts(EXTRACT_STAGE)):
            fits = artifact.manifest.inputs == made_from and settings_problem(config, artifact) is None
            if fits and self._workspace.staleness(artifact) is None:
                return artifact.name
        return None

    def _evaluate(self, variant: Variant, seed: int, progress: Progress) -> EvaluateResult:
        request = self._request
        scoring = EvaluateRequest(
            model=f"{DISTILL_STAGE}/{_run_name(variant, seed)}",
            split=request.split,
            nuscenes=request.nuscenes,
            device=request.device,
            workers=request.config.train.workers,
            force=request.force,
            prepared=request.prepared,
        )
        return evaluate(scoring, self._workspace, progress)

    def _command(self) -> Command:
        request, find = self._request, self._workspace.finished
        command = self._configured.setting("--comparison", *request.comparisons).setting("--split", request.split)
        command = command.setting("--seeds", ",".join(map(str, request.seeds)))
        command = command.setting("--name", self._name)
        if request.set_after:
            command = command.setting("--set-after", *request.set_after)
        teacher = find(TEACHER_STAGE, request.teacher)
        prepared = next(reversed(prepared_with(self._workspace, TRAIN)), None)
        for option, given, latest in (
            ("--teacher", request.teacher, teacher),
            ("--prepared", request.prepared, prepared),
        ):
            chosen = given or (latest.name if latest is not None else None)
            command = command if chosen is None else command.setting(option, chosen)
        return pin_machine(command, request.nuscenes, request.device)

    def write(self, scores: dict[tuple[Variant, int], EvaluateResult], progress: Progress) -> AblateResult:
        """The tables of finished scores."""
        request, backbone = self._request, published_backbone(self._request.config)
        rows = []
        for comparison, row, variant in self._rows:
            metrics = [_metrics(scores[variant, seed]) for seed in request.seeds]
            rows.append(score_row(comparison, row, f"{STAGE}-{variant.name}", request.seeds, metrics))
        how: dict[str, Any] = {
            "command": self._command(),
            "settings": {
                "comparisons": list(request.comparisons),
                "seeds": list(request.seeds),
                "set_after": list(request.set_after),
                "split": request.split,
            },
            "inputs": {_run_name(*student): result.artifact.reference() for student, result in scores.items()},
            "force": request.force,
            "replace": True,
        }
        with self._workspace.write(ArtifactRequest(STAGE, self._name, **how)) as writer:
            writer.warn(progress)
            if writer.finished is None:
                write_tables(writer.path, rows, backbone)
            artifact = writer.finished or writer.finish({"students": len(scores), "rows": len(rows)})
        return AblateResult(artifact, tuple(rows), backbone)


def _checked(request: AblateRequest) -> AblateRequest:
    unknown = [name for name in request.comparisons if name not in COMPARISONS]
    if unknown or not request.comparisons:
        raise UsageError(
            f"expected comparisons of {', '.join(COMPARISONS)}, found {quoted(unknown[0]) if unknown else 'none'}."
        )
    in_bounds = all(0 <= seed <= MOST_SEED for seed in request.seeds)
    if not request.seeds or not in_bounds or len(set(request.seeds)) < len(request.seeds):
        raise UsageError(
            f"expected different seeds from 0 to {MOST_SEED}, such as 0,1,2, found "
            f"{','.join(map(quoted, request.seeds)) or 'none'}."
        )
    if request.split == "test":
        raise UsageError(f"the annotations of {request.split} are not public, so there is nothing to compare; use val.")
    return request


def _run_name(variant: Variant, seed: int) -> str:
    return f"{STAGE}-{variant.name}-s{seed}"


def _metrics(result: EvaluateResult) -> Metrics:
    if result.metrics is None:
        raise UsageError(f"the annotations of {result.split} are not public, so there is nothing to compare; use val.")
    return result.metrics
