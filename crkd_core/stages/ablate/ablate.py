"""Stage ``ablate``: the paper's ladder and design comparisons over seeds, as one table."""

from dataclasses import dataclass

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.configuration import pin_configuration
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.split_names import TRAIN
from crkd_core.datasets.prepared.source import STAGE as PREPARE_STAGE
from crkd_core.datasets.prepared.source import PreparedSource, find_prepared
from crkd_core.errors import UsageError
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.progress import Progress, SilentProgress
from crkd_core.stages.ablate.checks import check_ablation, check_split
from crkd_core.stages.ablate.plan import AblationPlan, AblationStudent, plan_students
from crkd_core.stages.ablate.planned_run import PlannedRun, progress_of
from crkd_core.stages.ablate.request import AblateRequest, pin_request
from crkd_core.stages.ablate.rows import published_backbone
from crkd_core.stages.ablate.scored_row import ScoredRow, score_rows
from crkd_core.stages.ablate.table import write_tables
from crkd_core.stages.ablate.teacher_targets import extraction_for, fitting_targets
from crkd_core.stages.ablate.variants import STAGE
from crkd_core.stages.distill import distill
from crkd_core.stages.evaluate import EvaluateResult, evaluate
from crkd_core.stages.extract_teacher import extract_teacher
from crkd_core.stages.train_teacher import STAGE as TEACHER_STAGE
from crkd_core.training.distributed import ProcessGroup, process_group


@dataclass(frozen=True)
class AblateResult:
    """A finished ablation: its artifact with the tables, the rows, and whose published cells stand beside them."""

    artifact: Artifact
    rows: tuple[ScoredRow, ...]
    backbone: str


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
    plan = plan_students(request, workspace)
    # Before any student is there that another command would take its configuration from.
    command = pin_configuration(request.command, STAGE, request.table_name, request.config, workspace)
    scores: dict[str, EvaluateResult] = {}
    with process_group(request.device) as processes:
        shown = progress if processes.is_first else SilentProgress()
        for number, student in enumerate(plan.students, start=1):
            shown.message(f"student {number} of {len(plan.students)}: {student.name}")
            targets = _find_targets(student, plan, request, workspace, processes, shown)
            distill(student.training(targets, request), workspace, shown)
            # The others must not look for the student before the first process has put it in its folder.
            processes.barrier()
            result = evaluate(student.scoring(request), workspace, shown)
            if result is not None:
                scores[student.name] = result
            processes.barrier()
        return _write(plan, scores, command, request, workspace, progress) if processes.is_first else None


def plan_ablation(request: AblateRequest, workspace: Workspace) -> tuple[PlannedRun, ...]:
    """The students that :func:`ablate` needs, in its order, and how far they are; nothing is written.

    Raises:
        UsageError: there are no such comparisons or seeds, or the prepared data have no such split.
        ConfigError: a row, or what `set_after` says, does not fit the configuration.
    """
    plan = plan_students(request, workspace)
    if request.prepared is not None or workspace.artifacts(PREPARE_STAGE):
        check_split(request, workspace)
    return tuple(progress_of(plan, request.split, workspace))


def _find_targets(
    student: AblationStudent,
    plan: AblationPlan,
    request: AblateRequest,
    workspace: Workspace,
    processes: ProcessGroup,
    progress: Progress,
) -> str | None:
    """The latest teacher targets that fit a student with losses, extracted first where there are none."""
    if not student.variant.losses:
        return None
    needed_for, make = f"crkd {STAGE}", f"crkd {TEACHER_STAGE}"
    teacher = workspace.find(TEACHER_STAGE, request.teacher, needed_for=needed_for, make=make)
    source = PreparedSource(TRAIN, teacher.manifest.inputs.get("prepared"))
    prepared = find_prepared(workspace, request.prepared, needed_for, source)
    targets = fitting_targets(student.config, teacher, prepared, workspace)
    if targets is not None:
        return targets
    extraction = extraction_for(student, plan, request, teacher, workspace)
    processes.barrier()
    extract_teacher(extraction, workspace, progress)
    processes.barrier()
    return extraction.name


def _write(
    plan: AblationPlan,
    scores: dict[str, EvaluateResult],
    pinned: Command,
    request: AblateRequest,
    workspace: Workspace,
    progress: Progress,
) -> AblateResult:
    """The tables of finished scores; `pinned` is the command with its configuration."""
    rows = score_rows(plan.rows, request.seeds, {name: _metrics(result) for name, result in scores.items()})
    backbone = published_backbone(request.config)
    output = ArtifactRequest(
        STAGE,
        request.table_name,
        command=pin_request(pinned, request, workspace),
        settings=request.settings,
        inputs={name: result.artifact.reference() for name, result in scores.items()},
        force=request.force,
        replace=True,
    )
    with workspace.write(output) as writer:
        writer.warn(progress)
        if writer.finished is None:
            write_tables(writer.path, rows, backbone)
        artifact = writer.finished or writer.finish({"students": len(scores), "rows": len(rows)})
    return AblateResult(artifact, rows, backbone)


def _metrics(result: EvaluateResult) -> Metrics:
    if result.metrics is None:
        raise UsageError(f"the annotations of {result.split} are not public, so there is nothing to compare; use val.")
    return result.metrics
