"""``crkd extract-teacher``."""

from dataclasses import replace
from typing import Annotated

import typer

from crkd_cli import options
from crkd_cli.groups import grouped
from crkd_cli.session import session_of


@grouped
def extract_teacher(
    context: typer.Context,
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="Name of the teacher; the latest.", autocompletion=options.complete_teacher),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the targets.")] = "targets",
    plan: Annotated[bool, typer.Option("--plan", help="Only measure and tell size and time; write nothing.")] = False,
    verify: Annotated[
        int,
        typer.Option(
            "--verify",
            min=0,
            max=options.MOST_ITEMS,
            metavar="N",
            help="Afterwards compute N random items again and compare.",
        ),
    ] = 0,
    split: options.TrainSplitOption = "train",
    *,
    data: options.DataOptions,
    config: options.ConfigOptions,
    machine: options.MachineOptions,
    run: options.RunOptions,
) -> None:
    """Run the teacher once over the training samples and keep what the student has to imitate.

    The students then train without the teacher and without LiDAR files. Before it starts it tells size and time; if it
    is stopped, the same command continues it. The teacher's own mAP is measured on the way.
    """
    session = session_of(context)
    store = session.workspace(workspace)
    chosen = config.resolve(session, store)
    device = (replace(machine, gpus=None, processes=None) if plan else machine).spread(session)
    from crkd_cli.results import print_extraction
    from crkd_core.stages.extract_teacher import ExtractRequest, extract_teacher

    request = ExtractRequest(
        config=chosen,
        teacher=teacher,
        name=name,
        split=split,
        prepared=data.prepared,
        nuscenes=data.nuscenes,
        device=device,
        plan=plan,
        verify=verify,
        force=run.force,
        resume=run.resume,
        command=session.command(context),
    )
    print_extraction(extract_teacher(request, store, session.progress()))
