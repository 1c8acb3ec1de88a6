"""Finding a trained model by name, whichever stage made it."""

from crkd_core.artifacts.artifact import Artifact
from crkd_core.artifacts.workspace import Workspace
from crkd_core.errors import MissingArtifactError

MODEL_STAGES: tuple[str, ...] = ("train-teacher", "distill")
_MAKE = "crkd train-teacher"


def latest_model(workspace: Workspace) -> Artifact | None:
    """The latest teacher, else the latest student.

    Raises:
        DamagedArtifactError: its manifest is damaged.
    """
    for stage in MODEL_STAGES:
        latest = next(workspace.newest_first(stage), None)
        if latest is not None:
            return latest
    return None


def find_model(workspace: Workspace, name: str | None, needed_for: str) -> Artifact:
    """A trained model, verified and not stale.

    Args:
        name: name of its run, or ``stage/name`` where a teacher and a student share one; None for the latest student,
            or the latest teacher where there is no student.
        needed_for: the command, for messages.

    Raises:
        MissingArtifactError: there is none of that name; the message lists those that exist.
        StaleArtifactError, DamagedArtifactError: it cannot be used.
    """
    if name is None:
        stage = next((stage for stage in reversed(MODEL_STAGES) if workspace.names(stage)), None)
        if stage is None:
            raise MissingArtifactError(
                f"{needed_for} needs a trained model, and {workspace.root} has none; make one with: "
                f"{workspace.command(_MAKE)}"
            )
        return workspace.find(stage, needed_for=needed_for, make=f"crkd {stage}")
    named_stage, _, run = name.rpartition("/")
    holders = [stage for stage in MODEL_STAGES if named_stage in ("", stage) and run in workspace.names(stage)]
    if len(holders) == 1:
        return workspace.find(holders[0], run, needed_for=needed_for, make=f"crkd {holders[0]} --name {run}")
    if holders:
        both = " and ".join(f"{stage}/{run}" for stage in holders)
        raise MissingArtifactError(f"{needed_for}: {run!r} may mean {both}; name one of them in full.")
    known = [artifact.label for stage in MODEL_STAGES for artifact in workspace.artifacts(stage)]
    unfinished = [
        stage for stage in MODEL_STAGES if named_stage in ("", stage) and run in workspace.partial_names(stage)
    ]
    if unfinished:
        return workspace.find(unfinished[0], run, needed_for=needed_for, make=f"crkd {unfinished[0]}")
    raise MissingArtifactError(
        f"{needed_for}: no trained model is named {name!r} in {workspace.root}; there is "
        f"{', '.join(known) if known else 'none yet'}; make one with: {workspace.command(_MAKE)}"
    )
