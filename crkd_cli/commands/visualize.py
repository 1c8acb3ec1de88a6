"""``crkd visualize``."""

from typing import Annotated

import typer

from crkd_cli import console, options
from crkd_cli.session import session_of


def visualize(
    context: typer.Context,
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    split: Annotated[str, typer.Option("--split", help="Samples to draw from: train, val or test.")] = "val",
    samples: Annotated[
        int, typer.Option("--samples", "-n", min=1, max=options.MOST_ITEMS, help="Number of samples to draw.")
    ] = 4,
    token: Annotated[
        list[str] | None,
        typer.Option("--token", help="Draw this sample; may be repeated.", show_default=False),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Evaluated model to show, may be repeated (at most 4); the evaluated ones.",
            autocompletion=options.complete_model,
            show_default=False,
        ),
    ] = None,
    missed: Annotated[
        str | None,
        typer.Option(
            "--missed",
            metavar="COMPARISON",
            help="Mark what only the first model of a crkd compare finds, in the samples that have most of it.",
            show_default=False,
        ),
    ] = None,
    score: Annotated[float, typer.Option("--score", min=0, max=1, help="Hide detections below this score.")] = 0.3,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=options.MOST_SEED, help="Seed of the choice of samples.")
    ] = 0,
    nuscenes: options.NuscenesOption = None,
    force: options.ForceOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Draw what the models see: bird's-eye view and cameras, with ground truth."""
    from crkd_core.stages.visualize import VisualizeRequest, visualize

    session = session_of(context)
    request = VisualizeRequest(
        split=split,
        samples=samples,
        tokens=tuple(token or ()),
        models=tuple(model or ()),
        seed=seed,
        nuscenes=nuscenes,
        score=score,
        force=force,
        missed=missed,
        command=session.command(context),
    )
    result = visualize(request, session.workspace(workspace), session.progress())
    console.print_lines(*(str(path) for path in (*result.paths, result.index)))
