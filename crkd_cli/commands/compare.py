"""``crkd compare``."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from crkd_cli import console, options
from crkd_cli.analysis import KINDS, check_kinds, complete_kind, number
from crkd_cli.session import session_of
from crkd_core.progress import format_count

if TYPE_CHECKING:
    from crkd_core.stages.compare import CompareResult

_MOST_CLASSES = 4
_SCORES: dict[str, Literal["ap", "nds"]] = {"mAP": "ap", "NDS": "nds"}
_COLUMNS = ("A", "B", "B - A", "95%", "beyond\nnoise")


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
    resamples: Annotated[
        int,
        typer.Option("--bootstrap", metavar="N", min=0, max=options.MOST_RESAMPLES, help="Resamples of the scenes."),
    ] = 200,
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
        command=session.command(context),
    )
    store = session.workspace(workspace)
    result = compare(request, store, session.progress())
    if as_json:
        console.print_lines(json.dumps(_to_json(result), indent=2))
        return
    _print(result, breakdown or [], score, store.command("crkd visualize", missed=result.artifact.name))


def _print(result: "CompareResult", kinds: list[str], score: float, show_missed: str) -> None:
    rows = result.table.to_pylist()
    whole = [row for row in rows if row["kind"] == "all"]
    console.print_lines(f"A is {result.names[0]}, B is {result.names[1]}; differences are B - A.")
    table = console.make_table(["", "objects", *_COLUMNS], numbers_from=1)
    for name, row, score_name in [("NDS", whole[0], "nds"), *((row["class"], row, "ap") for row in whole)]:
        table.add_row("mAP" if name == "all" else name, str(row["objects"]), *_cells(row, score_name))
    console.print_table(table)
    console.print_lines(*_conclusions(result))
    for kind in kinds:
        table = console.make_table([kind, "AP of", *_COLUMNS], numbers_from=2)
        for row in rows:
            if row["kind"] == kind:
                table.add_row(row["slice"], "mean" if row["class"] == "all" else row["class"], *_cells(row, "ap"))
        console.print_table(table)
    if whole[0]["ap_low"] is None:
        console.print_lines("A dash: too few scenes have such objects to tell (5 are needed, and resamples).", "")
    _print_missed(result, score, show_missed)
    console.print_facts([("comparison", result.artifact.path)])


def _conclusions(result: "CompareResult") -> list[str]:
    """Whether B is ahead, a sentence for each score of the whole split that can be judged."""
    first, second = result.names
    says = {
        "ahead": f"{second} is ahead of {first} beyond the noise",
        "behind": f"{second} is behind {first} beyond the noise",
        "level": f"{second} and {first} differ by no more than the noise",
    }
    whole = result.table.to_pylist()[0]
    return [
        f"{name}: {says[verdict]} ({_signed(whole[f'{score}_low'])} to {_signed(whole[f'{score}_high'])})."
        for (name, score), verdict in zip(_SCORES.items(), _verdicts(result).values())
        if verdict in says
    ]


def _verdicts(result: "CompareResult") -> dict[str, str]:
    from crkd_core.evaluation.statistics.comparison import verdict

    return {name: verdict(result.table.to_pylist()[0], score) for name, score in _SCORES.items()}


def _cells(row: dict[str, Any], score: str) -> list[str]:
    """Beyond noise: yes, no, or a dash where too few scenes have such objects."""
    low, high, judged = (row[f"{score}_{column}"] for column in ("low", "high", "beyond_noise"))
    return [
        number(row[f"{score}_first"]),
        number(row[f"{score}_second"]),
        _signed(row[f"{score}_difference"]),
        "-" if low is None else f"{_signed(low)} {_signed(high)}",
        "-" if judged is None else "yes" if judged else "no",
    ]


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _print_missed(result: "CompareResult", score: float, show: str) -> None:
    counts = sorted(_missed_by_class(result).items(), key=lambda item: -item[1])
    title = f"A finds {format_count(result.missed.num_rows, 'object')} that B misses (from score {score:g} on)"
    if not counts:
        console.print_lines(f"{title}.")
        return
    by_class = ", ".join(f"{name} {count}" for name, count in counts[:_MOST_CLASSES])
    console.print_lines(f"{title}:", f"{by_class}{', ...' if len(counts) > _MOST_CLASSES else ''}.")
    console.print_lines(f"They are shown by: {show}")


def _missed_by_class(result: "CompareResult") -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in result.missed["class"].value_counts().to_pylist()}


def _to_json(result: "CompareResult") -> dict[str, Any]:
    return {
        "artifact": str(result.artifact.path),
        "first": result.names[0],
        "second": result.names[1],
        "verdict": _verdicts(result),
        "comparison": result.table.to_pylist(),
        "missed": _missed_by_class(result),
    }
