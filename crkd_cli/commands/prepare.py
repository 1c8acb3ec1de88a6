"""``crkd prepare``."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crkd_cli import console, options
from crkd_cli.data_report import print_checked, print_prepared
from crkd_cli.session import session_of

if TYPE_CHECKING:
    from crkd_core.stages.prepare import PrepareRequest

_VersionOption = Annotated[
    str | None,
    typer.Option("--version", help="Table folder, such as v1.0-trainval; the only one there.", show_default=False),
]
_DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME|FILE.yaml",
        help="What the data set is: nuscenes, truckscenes, t4, or a description of one's own; told by the sensors.",
        show_default=False,
    ),
]
_ValScenesOption = Annotated[
    Path | None,
    typer.Option(
        "--val-scenes",
        help="File that names the scenes of val, one a line; the others are train.",
        show_default=False,
    ),
]
_DescribeOption = Annotated[
    bool, typer.Option("--describe", help="Only write a first description (YAML) of what is there, to be edited.")
]
_OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="File of --describe; the standard output.", show_default=False),
]
_AllowMissingOption = Annotated[
    str | None,
    typer.Option(
        "--allow-missing",
        metavar="KIND,...",
        help="Go on although files are missing: samples leaves out key frames that lack an image or LiDAR file, "
        "lidar does without any LiDAR, radar and sweeps without these.",
        show_default=False,
    ),
]


def prepare(
    context: typer.Context,
    nuscenes: Annotated[Path, typer.Option("--nuscenes", help="Folder of the data set.", show_default=False)],
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    version: _VersionOption = None,
    dataset: _DatasetOption = None,
    val_scenes: _ValScenesOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the prepared data; after the version.", show_default=False)
    ] = None,
    allow_missing: _AllowMissingOption = None,
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
    describe_only: _DescribeOption = False,
    out: _OutOption = None,
    force: options.ForceOption = False,
    resume: options.ResumeOption = True,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Check a data set in nuScenes' tables and write its own tables and aggregated radar points."""
    from crkd_core.artifacts.configuration import data_to_prepare
    from crkd_core.config.description_files import load_description
    from crkd_core.stages.prepare import PrepareRequest, check, prepare

    session = session_of(context)
    if describe_only or out is not None:
        _describe(PrepareRequest(nuscenes, version), out, force, describe_only, check_only or dataset is not None)
        return
    data = data_to_prepare(session.workspace(workspace), preset, config, overrides or ())
    request = PrepareRequest(
        nuscenes=nuscenes,
        version=version,
        dataset=None if dataset is None else load_description(dataset),
        val_scenes=val_scenes,
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


def _describe(
    request: "PrepareRequest", out: Path | None, force: bool, is_asked_for: bool, is_contradicted: bool
) -> None:
    from crkd_core.artifacts.atomic import write_text
    from crkd_core.errors import UsageError
    from crkd_core.stages.prepare import describe

    if not is_asked_for:
        raise UsageError("--out is for the description that --describe writes; add that, or leave --out away.")
    if is_contradicted:
        raise UsageError("--describe writes a description and prepares nothing; leave --check and --dataset away.")
    if out is not None and os.path.lexists(out) and not force:
        raise UsageError(f"{out} is there already; choose another --out, or replace it with --force.")
    text = describe(request)
    if out is None:
        console.print_lines(text.rstrip("\n"))
        return
    write_text(out, text)
    console.print_facts([("description", out), ("next", f"edit it, then: {_next(request.nuscenes, out)}")])


def _next(nuscenes: Path, out: Path) -> str:
    return shlex.join(["crkd", "prepare", "--nuscenes", str(nuscenes), "--dataset", str(out)])
