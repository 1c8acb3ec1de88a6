"""``crkd distill``."""

from typing import Annotated, Literal

import typer

from crkd_cli import options
from crkd_cli.command_help import LOSSES
from crkd_cli.groups import grouped
from crkd_cli.session import session_of
from crkd_core.errors import UsageError


def complete_losses(incomplete: str) -> list[str]:
    """Continuations of a comma-separated list of losses."""
    from crkd_core.config.distill import LOSS_NAMES

    chosen, _, started = incomplete.rpartition(",")
    head = f"{chosen}," if chosen else ""
    words = [*LOSS_NAMES, *([] if chosen else ["none"])]
    return [head + word for word in words if word.startswith(started) and word not in chosen.split(",")]


def parse_losses(text: str | None) -> tuple[str, ...] | None:
    """Loss names from a comma-separated list; () for "none", None for None.

    Raises:
        UsageError: a name is no loss, or stands there twice.
    """
    from crkd_core.config.distill import LOSS_NAMES

    if text is None:
        return None
    if text.strip() == "none":
        return ()
    names = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in names if name not in LOSS_NAMES]
    if unknown:
        raise UsageError(
            f"--losses: there is no loss called {unknown[0]!r}; expected none, or a comma-separated list of "
            f"{', '.join(LOSS_NAMES)}."
        )
    if len(set(names)) < len(names):
        raise UsageError(f"--losses names a loss twice: {text}.")
    return names


def complete_source(ctx: typer.Context, incomplete: str) -> list[str]:
    """Where teacher targets come from."""
    sources = ["cache", "online", *(f"online:{name}" for name in options.complete_teacher(ctx, ""))]
    return [source for source in sources if source.startswith(incomplete)]


def parse_teacher(text: str) -> "tuple[Literal['cache', 'online'], str | None]":
    """Where teacher targets come from, and the name of a live teacher where one is named.

    Raises:
        UsageError: it is neither.
    """
    source, _, run = text.partition(":")
    if source == "online" and (run or ":" not in text):
        return "online", run or None
    if text == "cache":
        return "cache", None
    raise UsageError(f"--teacher expects cache, online or online:RUN, found {text!r}.")


LossesOption = Annotated[
    str | None,
    typer.Option(
        "--losses",
        metavar="none|NAME,...",
        help=f"Losses to distil with ({LOSSES}), or none; those of the configuration.",
        autocompletion=complete_losses,
    ),
]
TeacherOption = Annotated[
    str,
    typer.Option(
        "--teacher",
        metavar="cache|online|online:RUN",
        help="Use extracted targets, or run the (latest) teacher in every step.",
        autocompletion=complete_source,
    ),
]
TargetsOption = Annotated[
    str | None,
    typer.Option("--targets", help="Name of the targets; the latest.", autocompletion=options.complete_targets),
]
InitOption = Annotated[
    str,
    typer.Option(
        "--init",
        metavar="auto|none|RUN",
        help="Student run to start from; auto: the plain student if there is one.",
        autocompletion=options.complete_student,
    ),
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the run; after its losses.", show_default=False)
]
LogGradientsOption = Annotated[
    int | None,
    typer.Option(
        "--log-gradients",
        metavar="EVERY",
        min=1,
        max=options.MOST_ITEMS,
        help="Record every so many steps how the losses pull at the layers they share.",
        show_default=False,
    ),
]


@grouped
def distill(
    context: typer.Context,
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    losses: LossesOption = None,
    teacher: TeacherOption = "cache",
    targets: TargetsOption = None,
    init: InitOption = "auto",
    name: NameOption = None,
    log_gradients: LogGradientsOption = None,
    *,
    training: options.TrainingOptions,
) -> None:
    """Train the camera-radar student, taught by the teacher.

    --losses none trains the same student without a teacher: the baseline, and the start of the distilled one.
    """
    session = session_of(context)
    store = session.workspace(workspace)
    names = parse_losses(losses)
    source, live_teacher = parse_teacher(teacher)
    config = training.resolve(session, store, [] if log_gradients is None else [f"train.log_gradients={log_gradients}"])
    device = training.machine.spread(session)
    from crkd_cli.results import print_training
    from crkd_core.stages.distill import DistillRequest, distill

    request = DistillRequest(
        config=config,
        losses=names,
        teacher=source,
        live_teacher=live_teacher,
        targets=targets,
        init=init,
        name=name,
        split=training.split,
        backbone=training.backbone,
        prepared=training.data.prepared,
        nuscenes=training.data.nuscenes,
        device=device,
        force=training.run.force,
        resume=training.run.resume,
        command=session.command(context),
    )
    print_training(distill(request, store, session.progress()))
