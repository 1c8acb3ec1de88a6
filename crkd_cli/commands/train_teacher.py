"""``crkd train-teacher``."""

from typing import Annotated

import typer

from crkd_cli import options
from crkd_cli.session import session_of


def train_teacher(
    context: typer.Context,
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    name: Annotated[str, typer.Option("--name", help="Name of the run.")] = "teacher",
    init: Annotated[
        str, typer.Option("--init", metavar="none|RUN", help="Teacher run to start from, or none: new weights.")
    ] = "none",
    split: options.TrainSplitOption = "train",
    backbone: options.BackboneOption = None,
    prepared: options.PreparedOption = None,
    nuscenes: options.NuscenesOption = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    device: options.DeviceOption = "auto",
    gpus: options.GpusOption = None,
    processes: options.ProcessesOption = None,
    compile_dense: options.CompileOption = False,
    force: options.ForceOption = False,
    resume: options.ResumeOption = True,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Train the LiDAR-camera teacher.

    A stopped run continues from its last checkpoint and ends with the same weights.
    """
    session = session_of(context)
    store = session.workspace(workspace)
    chosen = [*(overrides or []), *(["train.compile=true"] if compile_dense else [])]
    resolved = session.config(store, preset, config, chosen)
    from crkd_cli.relaunch import spread

    device = spread(session, device, gpus, processes)
    from crkd_cli.results import print_training
    from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher

    request = TrainTeacherRequest(
        config=resolved,
        name=name,
        init=init,
        split=split,
        backbone=backbone,
        prepared=prepared,
        nuscenes=nuscenes,
        device=device,
        force=force,
        resume=resume,
        command=session.command(context),
    )
    print_training(train_teacher(request, store, session.progress()))
