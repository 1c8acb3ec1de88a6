"""``crkd ablate``."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from crkd_cli import console, options
from crkd_cli.groups import grouped
from crkd_cli.session import session_of
from crkd_core.errors import UsageError, quoted

if TYPE_CHECKING:
    from crkd_core.stages.ablate.ablate import AblateResult
    from crkd_core.stages.ablate.planned_run import PlannedRun

_COMPARISONS = (
    "ladder", "summary", "csrd-target", "mask", "adapter", "weights", "affinity", "radar-elevation", "fuser-widths",
)  # fmt: skip


def complete_comparison(incomplete: str) -> list[str]:
    """Names of comparisons."""
    return [name for name in _COMPARISONS if name.startswith(incomplete)]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from a comma-separated list.

    Raises:
        UsageError: something is not a whole number.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("-?[0-9]{1,20}", part) for part in parts):
        raise UsageError(f"--seeds expects whole numbers with commas, such as 0,1,2, found {quoted(text)}.")
    return tuple(map(int, parts))


@grouped
def ablate(
    context: typer.Context,
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    comparison: Annotated[
        list[str] | None,
        typer.Option(
            "--comparison",
            metavar="NAME",
            help=f"What to compare, may be repeated: {', '.join(_COMPARISONS)}; the ladder.",
            autocompletion=complete_comparison,
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="N,...", help="Seeds of the students.")] = "0,1,2",
    split: Annotated[str, typer.Option("--split", help="Samples to score: train or val.")] = "val",
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="Name of the teacher; the latest.", autocompletion=options.complete_teacher),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the table; after its comparisons.", show_default=False)
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show the students that it needs; train nothing.")] = False,
    *,
    data: options.DataOptions,
    config: options.ConfigOptions,
    set_after: options.SetAfterOption = None,
    machine: options.MachineOptions,
    run: options.RunOptions,
) -> None:
    """Train and score the paper's ladder of losses, or its design comparisons, over several seeds.

    Every student is an ordinary run called ablate-...; if it is stopped, the same command continues it. The control
    trains as long as the distilled students, without a teacher.
    """
    session = session_of(context)
    store = session.workspace(workspace)
    chosen = config.resolve(session, store)
    from crkd_core.stages.ablate.ablate import ablate, plan_ablation
    from crkd_core.stages.ablate.checks import check_ablation
    from crkd_core.stages.ablate.request import AblateRequest

    request = AblateRequest(
        config=chosen,
        comparisons=tuple(dict.fromkeys(comparison or ["ladder"])),
        seeds=parse_seeds(seeds),
        set_after=tuple(set_after or ()),
        split=split,
        teacher=teacher,
        name=name,
        prepared=data.prepared,
        nuscenes=data.nuscenes,
        device=machine.device,
        force=run.force,
        resume=run.resume,
        command=session.command(context),
    )
    planned = plan_ablation(request, store)
    if plan:
        _print_plan(planned)
        return
    check_ablation(request, store)
    from dataclasses import replace

    request = replace(request, device=machine.spread(session))
    _print_result(ablate(request, store, session.progress()))


def _print_plan(runs: "tuple[PlannedRun, ...]") -> None:
    table = console.make_table(["student", "epochs", "trained", "scored", "how"], wrap_last_only=True)
    for run in runs:
        recipe = f"{' + '.join(run.losses) or 'no losses'}, from {run.start or 'new weights'}"
        table.add_row(run.name, str(run.epochs), run.trained, run.scored, recipe)
    console.print_table(table)


def _print_result(result: "AblateResult | None") -> None:
    """Three lines a row: mean, deviation over seeds, the paper's; nothing on processes that do not report."""
    if result is None:
        return
    from crkd_core.stages.ablate.rows import METRICS

    table = console.make_table(["", "n", *METRICS], numbers_from=1)
    for number, row in enumerate(result.rows):
        if number and row.comparison != result.rows[number - 1].comparison:
            table.add_section()
        lines = [
            (row.row.title, str(len(row.seeds)), [row.mean_text(metric) for metric in METRICS]),
            ("  deviation", "", [row.deviation_text(metric) for metric in METRICS]),
            (f"  paper, {result.backbone}", "", [row.paper_text(metric, result.backbone) for metric in METRICS]),
        ]
        for title, count, cells in lines:
            if any(cells):
                table.add_row(title, count, *cells)
    console.print_table(table)
    console.print_lines("mAP and NDS in percent; the paper's are of nuScenes val.", "")
    console.print_facts([("table", result.artifact.path)])
