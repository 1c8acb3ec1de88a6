"""``crkd import-weights``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from crkd_cli import console, options
from crkd_cli.session import session_of
from crkd_core.progress import format_count
from crkd_core.weights.catalogue import shipped_names

_SHIPPED = f": {', '.join(shipped_names())}" if shipped_names() else ""


def _complete_shipped(incomplete: str) -> list[str]:
    """Names of the models that come with crkd."""
    return [name for name in shipped_names() if name.startswith(incomplete)]


def import_weights(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|NAME",
            help=f"A checkpoint (.pth, .pt, .bin, .safetensors), or a model that comes with crkd{_SHIPPED}.",
            autocompletion=_complete_shipped,
        ),
    ],
    role: Annotated[
        Literal["teacher", "student", "distilled", "backbone"],
        typer.Option("--as", help="What it becomes; a backbone is where training starts from.", show_default=False),
    ],
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the run; teacher, plain, crkd, or the file's.", show_default=False),
    ] = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    averaged: Annotated[
        bool, typer.Option("--ema", help="Take the averaged weights (EMA) that the file keeps beside the plain ones.")
    ] = False,
    force: options.ForceOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Take over a published checkpoint of CRKD, or an image backbone of torchvision, timm, mmdetection or Swin.

    The configuration must describe the same model; without one, that which the file brings (models that come with
    crkd do), the workspace's or the published one (paper-r50, paper-swint) that fits the file. Nothing in the file is
    executed.
    """
    session = session_of(context)
    store = session.workspace(workspace)
    named = preset is not None or config is not None
    resolved = session.config(store, preset, config, overrides) if named else None
    from crkd_core.stages.import_weights import ImportRequest, import_weights

    request = ImportRequest(
        file=file,
        role=role,
        config=resolved,
        name=name,
        force=force,
        averaged=averaged,
        overrides=tuple(overrides or ()),
        command=session.command(context),
    )
    result = import_weights(request, store, session.progress())
    console.print_facts(
        [
            ("imported", result.artifact.path),
            ("model", result.model),
            ("size", f"{format_count(result.tensors, 'tensor')}, {result.parameters / 1e6:.2f} M parameters"),
        ]
    )
