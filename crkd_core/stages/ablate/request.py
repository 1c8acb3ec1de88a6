"""What an ablation is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.numbers import MOST_SEED
from crkd_core.config.schema import Config
from crkd_core.config.split_names import TEST, TRAIN, VAL
from crkd_core.datasets.prepared.source import pin_machine, prepared_with
from crkd_core.errors import UsageError, quoted
from crkd_core.stages.ablate.rows import COMPARISONS
from crkd_core.stages.train_teacher import STAGE as TEACHER_STAGE


@dataclass(frozen=True)
class AblateRequest:
    """What to compare.

    Attributes:
        config: the resolved configuration that every row changes in its own way.
        comparisons: of :data:`crkd_core.stages.ablate.rows.COMPARISONS`.
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
    split: str = VAL
    teacher: str | None = None
    name: str | None = None
    prepared: str | None = None
    nuscenes: Path | None = None
    device: str = "auto"
    force: bool = False
    resume: bool = True
    command: Command | None = None

    @property
    def table_name(self) -> str:
        """Name of the result."""
        return self.name or "-".join(self.comparisons)

    @property
    def settings(self) -> dict[str, Any]:
        """What of it the manifest of the tables says."""
        return {
            "comparisons": list(self.comparisons),
            "seeds": list(self.seeds),
            "set_after": list(self.set_after),
            "split": self.split,
        }


def check_request(request: AblateRequest) -> None:
    """Refuse what cannot be compared.

    Raises:
        UsageError: there are no such comparisons or seeds, or the split has no annotations.
    """
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
    if request.split == TEST:
        raise UsageError(f"the annotations of {request.split} are not public, so there is nothing to compare; use val.")


def pin_request(pinned: Command, request: AblateRequest, workspace: Workspace) -> Command:
    """The command of a request, whose configuration is pinned, such that it compares the same later."""
    command = pinned.setting("--comparison", *request.comparisons).setting("--split", request.split)
    command = command.setting("--seeds", ",".join(map(str, request.seeds))).setting("--name", request.table_name)
    if request.set_after:
        command = command.setting("--set-after", *request.set_after)
    teacher = workspace.finished(TEACHER_STAGE, request.teacher)
    prepared = next(reversed(prepared_with(workspace, TRAIN)), None)
    inputs = (("--teacher", request.teacher, teacher), ("--prepared", request.prepared, prepared))
    for option, given, latest in inputs:
        name = given or (latest.name if latest is not None else None)
        command = command if name is None else command.setting(option, name)
    return pin_machine(command, request.nuscenes, request.device)
