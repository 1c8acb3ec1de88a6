"""Progress of an ablation: which students of its plan are trained and scored."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from crkd_core.artifacts.workspace import Workspace
from crkd_core.evaluation.identity import STAGE as EVALUATE_STAGE
from crkd_core.evaluation.identity import Subject, Variant, evaluations_of
from crkd_core.stages.ablate.plan import AblationPlan
from crkd_core.training.student import STAGE as STUDENT_STAGE

State = Literal["finished", "unfinished", "to do"]


@dataclass(frozen=True)
class PlannedRun:
    """One student of an ablation, its recipe, and the state of its training and scoring."""

    name: str
    losses: tuple[str, ...]
    start: str | None
    epochs: int
    trained: State
    scored: State


def progress_of(plan: AblationPlan, split: str, workspace: Workspace) -> Iterator[PlannedRun]:
    """State of every student, in the order of the plan."""
    for student in plan.students:
        yield PlannedRun(
            name=student.name,
            losses=student.variant.losses,
            start=student.start,
            epochs=student.epochs,
            trained=_state(workspace, STUDENT_STAGE, student.name),
            scored=_state(workspace, EVALUATE_STAGE, _evaluation_name(workspace, student.name, split)),
        )


def _evaluation_name(workspace: Workspace, run: str, split: str) -> str:
    evaluations = evaluations_of(workspace, split)
    scored = (Subject(run, STUDENT_STAGE), Variant())
    own = [artifact.name for artifact in evaluations if (Subject.of(artifact), Variant.of(artifact)) == scored]
    return own[-1] if own else f"{run}-{split}"


def _state(workspace: Workspace, stage: str, name: str) -> State:
    finished = [artifact for artifact in workspace.artifacts(stage) if artifact.name == name]
    if finished and workspace.staleness(finished[0]) is None:
        return "finished"
    return "unfinished" if name in workspace.partial_names(stage) else "to do"
