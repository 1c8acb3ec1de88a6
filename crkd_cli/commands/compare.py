"""``crkd compare``."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crkd_cli import console, options
from crkd_cli.analysis import KINDS, check_kinds, complete_kind, number
from crkd_cli.session import session_of

if TYPE_CHECKING:
    from crkd_core.stages.compare import CompareResult

_MOST_CLASSES = 10


def compare(
    context: typer.Context,
    first: Annotated[
        str,
        typer.Argument(metavar="RUN_A", help="A model or an evaluation.", autocompletion=options.complete_model),
    ],
    second: Annotated[
        str,
        typer.Argument(metavar="RUN_B", help="What to compare with it.", autocompletion=options.complete_model),
    ],
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    split: Annotated[str, typer.Option("--split", help="Samples to compare on: train or val.")] = "val",
    breakdown: Annotated[
        list[str] | None,
        typer.Option(
            "--breakdown",
            metavar="KIND",
            help=f"Compare on parts, may be repeated: {', '.join(KINDS)}.",
            autocompletion=complete_kind,
            show_default=False,
        ),
    ] = None,
    resamples: Annotated[int, typer.Option("--bootstrap", metavar="N", min=0, help="Resamples of the scenes.")] = 200,
    score: Annotated[
        float, typer.Option("--score", min=0, max=1, help="Score from which on an object counts as found.")
    ] = 0.3,
    nuscenes: options.NuscenesOption = None,
    batch_size: options.BatchSizeOption = 4,
    workers: options.LoaderOption = 2,
    device: options.DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    force: options.ForceOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Tell whether two models differ beyond the noise, per class and part of the split.

    Both are scored on the same resamples of the scenes. What RUN_A finds and RUN_B misses is kept as a table, which
    crkd visualize --missed shows.
    """
    check_kinds(breakdown or ())
    session = session_of(context)
    from crkd_core.stages.compare import CompareRequest, compare

    request = CompareRequest(
        first=first,
        second=second,
        split=split,
        resamples=resamples,
        score=score,
        force=force,
        nuscenes=nuscenes,
        device=device,
        batch_size=batch_size,
        workers=workers,
    )
    result = compare(request, session.workspace(workspace), session.progress())
    if as_json:
        console.print_lines(json.dumps(_to_json(result), indent=2))
        return
    _print(result, breakdown or [], score)


def _print(result: "CompareResult", kinds: list[str], score: float) -> None:
    rows = result.table.to_pylist()
    whole = [row for row in rows if row["kind"] == "all"]
    lines = [("mAP", whole[0], "ap"), ("NDS", whole[0], "nds")]
    lines += [(row["class"], row, "ap") for row in whole[1:]]
    console.print_lines(f"A is {result.names[0]}, B is {result.names[1]}; differences are B - A.")
    _print_table("", lines)
    for kind in kinds:
        own = [row for row in rows if row["kind"] == kind]
        names = [f"{row['slice']} {'mAP' if row['class'] == 'all' else row['class']}" for row in own]
        _print_table(kind, [(name, row, "ap") for name, row in zip(names, own)])
    _print_missed(result, score)
    console.print_facts([("comparison", result.artifact.path)])


def _print_table(title: str, lines: list[tuple[str, dict[str, Any], str]]) -> None:
    table = console.make_table([title, "objects", "A", "B", "B - A", "95%", "beyond noise"], numbers_from=1)
    for name, row, score in lines:
        low, high, judged = (row[f"{score}_{column}"] for column in ("low", "high", "beyond_noise"))
        interval = "-" if low is None else f"{low:+.3f} to {high:+.3f}"
        difference = row[f"{score}_difference"]
        table.add_row(
            name,
            str(row["objects"]),
            number(row[f"{score}_first"]),
            number(row[f"{score}_second"]),
            "-" if difference is None else f"{difference:+.3f}",
            interval,
            "-" if judged is None else "yes" if judged else "no",
        )
    console.print_table(table)


def _print_missed(result: "CompareResult", score: float) -> None:
    counts = sorted(_missed_by_class(result).items(), key=lambda item: -item[1])
    by_class = ", ".join(f"{name} {count}" for name, count in counts[:_MOST_CLASSES])
    found = f"A finds {result.missed.num_rows} objects that B misses (from score {score:g} on)"
    console.print_lines(f"{found}: {by_class}." if counts else f"{found}.")
    if counts:
        console.print_lines(f"They are shown by: crkd visualize --missed {result.artifact.name}")


def _missed_by_class(result: "CompareResult") -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in result.missed["class"].value_counts().to_pylist()}


def _to_json(result: "CompareResult") -> dict[str, Any]:
    return {
        "artifact": str(result.artifact.path),
        "first": result.names[0],
        "second": result.names[1],
        "comparison": result.table.to_pylist(),
        "missed": _missed_by_class(result),
    }
