"""``crkd export-weights``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from crkd_cli import console, options
from crkd_cli.session import session_of
from crkd_core.progress import format_count


def export_weights(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A trained model.", autocompletion=options.complete_model)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.", show_default=False)],
    kind: Annotated[
        Literal["published", "shared"],
        typer.Option(
            "--format",
            help="published: as the released code names its tensors; shared: the same in half precision, and beside it "
            "a manifest (.json) with the configuration, scores, origin and checksum.",
        ),
    ] = "published",
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="Revision of the code, for the manifest.", show_default=False),
    ] = None,
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    force: options.ForceOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Write a trained teacher or student as a checkpoint in the published format, to share it.

    The file holds tensors only, under the names of the released code; crkd import-weights reads it back, with
    a manifest beside it without being told the configuration.
    """
    session = session_of(context)
    store = session.workspace(workspace)
    from crkd_core.stages.export_weights import ExportRequest, export_weights

    result = export_weights(ExportRequest(run, out, kind, force, revision), store, session.progress())
    console.print_facts(
        [
            ("exported", result.file),
            *((("manifest", result.manifest),) if result.manifest is not None else ()),
            ("model", f"{result.model}, {result.artifact.label}"),
            ("size", f"{format_count(result.tensors, 'tensor')}, {result.parameters / 1e6:.2f} M parameters"),
            ("import", result.import_command.text(None)),
        ]
    )
