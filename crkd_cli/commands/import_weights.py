"""``crkd import-weights``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from crkd_cli import console, options
from crkd_cli.session import session_of


def import_weights(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint: .pth, .pt or .safetensors.")],
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
    force: options.ForceOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Take over a published checkpoint of CRKD, or an ImageNet backbone of torchvision or Swin.

    The configuration (paper-r50, paper-swint) must describe the same model. Nothing in the file is executed.
    """
    session = session_of(context)
    store = session.workspace(workspace)
    resolved = session.config(store, preset, config, overrides)
    from crkd_core.stages.import_weights import ImportRequest, import_weights

    request = ImportRequest(
        file=file, role=role, config=resolved, name=name, force=force, command=session.command(context)
    )
    result = import_weights(request, store, session.progress())
    console.print_facts(
        [
            ("imported", result.artifact.path),
            ("model", result.model),
            ("size", f"{result.tensors} tensors, {result.parameters / 1e6:.2f} M parameters"),
        ]
    )
