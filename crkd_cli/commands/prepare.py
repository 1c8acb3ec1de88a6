"""``crkd prepare``."""

from pathlib import Path
from typing import Annotated

import typer

from crkd_cli import options
from crkd_cli.data_report import print_checked, print_prepared
from crkd_cli.session import session_of


def prepare(
    context: typer.Context,
    nuscenes: Annotated[Path, typer.Option("--nuscenes", help="Folder of the data set.", show_default=False)],
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    version: Annotated[
        str | None,
        typer.Option("--version", help="Table folder, such as v1.0-trainval; the only one there.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the prepared data; after the version.", show_default=False)
    ] = None,
    allow_missing: Annotated[
        str | None,
        typer.Option(
            "--allow-missing",
            metavar="KIND,...",
            help="Go on although files are missing: samples leaves out key frames that lack an image or LiDAR file, "
            "lidar does without any LiDAR, radar and sweeps without these.",
            show_default=False,
        ),
    ] = None,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Read files whose names in the tables lead out of the folder.")
    ] = False,
    radar_sweeps: Annotated[
        int | None,
        typer.Option(
            "--radar-sweeps",
            min=1,
            max=options.MOST_SWEEPS,
            help="Sweeps of each radar to aggregate.",
            show_default="data.radar.sweeps: 6",
        ),
    ] = None,
    lidar_sweeps: Annotated[
        int | None,
        typer.Option(
            "--lidar-sweeps",
            min=1,
            max=options.MOST_SWEEPS,
            help="LiDAR sweeps to list.",
            show_default="data.lidar.sweeps: 10",
        ),
    ] = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    processes: options.WorkersOption = 1,
    check_only: Annotated[
        bool, typer.Option("--check", help="Only report what is there and what is wrong with it; write nothing.")
    ] = False,
    force: options.ForceOption = False,
    resume: options.ResumeOption = True,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Check a nuScenes data set and write its tables and aggregated radar points."""
    from crkd_core.artifacts.configuration import data_to_prepare
    from crkd_core.stages.prepare import PrepareRequest, check, prepare

    session = session_of(context)
    data = data_to_prepare(session.workspace(workspace), preset, config, overrides or ())
    request = PrepareRequest(
        nuscenes=nuscenes,
        version=version,
        allow_missing=frozenset(part.strip() for part in (allow_missing or "").split(",") if part.strip()),
        radar_sweeps=radar_sweeps or data.radar.sweeps,
        lidar_sweeps=lidar_sweeps or data.lidar.sweeps,
        lidar_columns=data.lidar.columns,
        name=name,
        allow_outside=allow_outside,
        processes=processes,
        force=force,
        resume=resume,
        command=session.command(context),
    )
    if check_only:
        print_checked(check(request, session.progress()), nuscenes)
    else:
        print_prepared(prepare(request, session.workspace(workspace), session.progress()))
