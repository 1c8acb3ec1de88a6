"""``crkd prepare``."""

from pathlib import Path
from typing import Annotated

import typer

from crkd_cli import console, options
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
            metavar="radar,sweeps",
            help="Go on although files of radar or of sweeps are missing.",
            show_default=False,
        ),
    ] = None,
    radar_sweeps: Annotated[
        int | None,
        typer.Option(
            "--radar-sweeps", min=1, help="Sweeps of each radar to aggregate.", show_default="data.radar.sweeps: 6"
        ),
    ] = None,
    lidar_sweeps: Annotated[
        int | None,
        typer.Option("--lidar-sweeps", min=1, help="LiDAR sweeps to list.", show_default="data.lidar.sweeps: 10"),
    ] = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    processes: options.WorkersOption = 1,
    force: options.ForceOption = False,
    resume: options.ResumeOption = True,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Check a nuScenes data set and write its tables and aggregated radar points."""
    from crkd_core.config.loading import load_config
    from crkd_core.stages.prepare import PrepareRequest, prepare

    data = load_config(preset, config, overrides or ()).data
    session = session_of(context)
    request = PrepareRequest(
        nuscenes=nuscenes,
        version=version,
        allow_missing=frozenset(part.strip() for part in (allow_missing or "").split(",") if part.strip()),
        radar_sweeps=radar_sweeps or data.radar.sweeps,
        lidar_sweeps=lidar_sweeps or data.lidar.sweeps,
        name=name,
        processes=processes,
        force=force,
        resume=resume,
        command=session.command(context),
    )
    result = prepare(request, session.workspace(workspace), session.progress())
    samples = ", ".join(f"{count} {split}" for split, count in result.samples_per_split.items())
    console.print_facts(
        [
            ("prepared", result.artifact.path),
            ("version", result.version),
            ("samples", samples),
            ("annotations", result.annotations),
            *(("missing", line) for line in result.missing),
        ]
    )
