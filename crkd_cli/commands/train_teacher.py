"""``crkd train-teacher``."""

from typing import Annotated

import typer

from crkd_cli import options
from crkd_cli.groups import grouped
from crkd_cli.session import session_of


@grouped
def train_teacher(
    context: typer.Context,
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    name: Annotated[str, typer.Option("--name", help="Name of the run.")] = "teacher",
    init: Annotated[
        str, typer.Option("--init", metavar="none|RUN", help="Teacher run to start from, or none: new weights.")
    ] = "none",
    *,
    training: options.TrainingOptions,
) -> None:
    """Train the LiDAR-camera teacher.

    A stopped run continues from its last checkpoint and ends with the same weights.
    """
    session = session_of(context)
    store = session.workspace(workspace)
    config = training.resolve(session, store)
    device = training.machine.spread(session)
    from crkd_cli.results import print_training
    from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher

    request = TrainTeacherRequest(
        config=config,
        name=name,
        init=init,
        split=training.split,
        backbone=training.backbone,
        prepared=training.data.prepared,
        nuscenes=training.data.nuscenes,
        device=device,
        force=training.run.force,
        resume=training.run.resume,
        command=session.command(context),
    )
    print_training(train_teacher(request, store, session.progress()))
