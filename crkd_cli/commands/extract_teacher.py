"""``crkd extract-teacher``."""

from typing import Annotated

import typer

from crkd_cli import options
from crkd_cli.session import session_of


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
    prepared: options.PreparedOption = None,
    nuscenes: options.NuscenesOption = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    device: options.DeviceOption = "auto",
    gpus: options.GpusOption = None,
    processes: options.ProcessesOption = None,
    force: options.ForceOption = False,
    resume: options.ResumeOption = True,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Run the teacher once over the training samples and keep what the student has to imitate.

    The students then train without the teacher and without LiDAR files. Before it starts it tells size and time; if it
    is stopped, the same command continues it. The teacher's own mAP is measured on the way.
    """
    session = session_of(context)
    store = session.workspace(workspace)
    resolved = session.config(store, preset, config, overrides)
    from crkd_cli.relaunch import spread

    device = spread(session, device, gpus if not plan else None, processes if not plan else None)
    from crkd_cli.results import print_extraction
    from crkd_core.stages.extract import ExtractRequest, extract_teacher

    request = ExtractRequest(
        config=resolved,
        teacher=teacher,
        name=name,
        split=split,
        prepared=prepared,
        nuscenes=nuscenes,
        device=device,
        plan=plan,
        verify=verify,
        force=force,
        resume=resume,
        command=session.command(context),
    )
    print_extraction(extract_teacher(request, store, session.progress()))
