"""``crkd evaluate``."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crkd_cli import console, options
from crkd_cli.analysis import KINDS, Analysis, check_kinds, complete_kind
from crkd_cli.session import session_of
from crkd_core.errors import DamagedArtifactError, StaleArtifactError, UsageError

if TYPE_CHECKING:
    from crkd_core.artifacts.workspace import Workspace
    from crkd_core.evaluation.nuscenes.metrics import Metrics
    from crkd_core.progress import Progress
    from crkd_core.stages.evaluate import EvaluateRequest, EvaluateResult


def evaluate(
    context: typer.Context,
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Name of a trained model, may be repeated; the latest student.",
            autocompletion=options.complete_model,
            show_default=False,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every trained model of the workspace.")] = False,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "--results",
            metavar="FILE",
            help="Score a nuScenes result file (submission JSON) of any detector instead; may be repeated.",
            show_default=False,
        ),
    ] = None,
    subset: Annotated[
        bool, typer.Option("--subset", help="With --results: the files have only some samples; score these.")
    ] = False,
    split: Annotated[
        str, typer.Option("--split", help="Samples to score: train, val, trainval, test, or a split of splits.json.")
    ] = "val",
    prepared: options.PreparedOption = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version", help="With --results and --nuscenes: table folder to score with.", show_default=False
        ),
    ] = None,
    preset: options.PresetOption = None,
    config: options.ConfigOption = None,
    overrides: options.SetOption = None,
    nuscenes: Annotated[
        Path | None,
        typer.Option(
            "--nuscenes",
            help="Folder of the sensor files, if it has moved since crkd prepare; with --results, the tables there are "
            "enough.",
        ),
    ] = None,
    batch_size: options.BatchSizeOption = 4,
    workers: options.LoaderOption = 2,
    device: options.DeviceOption = "auto",
    official: Annotated[
        bool,
        typer.Option("--official", help="Run the nuScenes devkit too; fail if its metrics differ by 1e-9 or more."),
    ] = False,
    breakdown: Annotated[
        list[str] | None,
        typer.Option(
            "--breakdown",
            metavar="KIND",
            help=f"Show scores of parts, may be repeated: {', '.join(KINDS)}.",
            autocompletion=complete_kind,
            show_default=False,
        ),
    ] = None,
    resamples: Annotated[
        int | None,
        typer.Option(
            "--bootstrap",
            metavar="N",
            min=0,
            max=options.MOST_RESAMPLES,
            help="Resamples of the scenes for intervals; 200.",
        ),
    ] = None,
    curves: Annotated[bool, typer.Option("--curves", help="Draw precision and errors over recall.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    force: options.ForceOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Score detections with the nuScenes metrics: a trained model's, or those in a file.

    A model is evaluated as it was trained; of its configuration, --set may change how boxes are selected:
    --set student.head.nms.score_threshold=0.05
    """
    check_kinds(breakdown or ())
    shown = Shown(tuple(breakdown or ()), resamples, curves, as_json)
    if every and model:
        raise UsageError("--all and --model exclude each other.")
    session = session_of(context)
    store = session.workspace(workspace)
    changed = bool(preset or config or overrides)
    if results:
        if every or model or changed:
            raise UsageError(
                "--results scores a file as it is: leave out --all, --model, --preset, --config and --set."
            )
        from crkd_core.stages.evaluate_results import ResultsRequest, evaluate_results

        command = session.command(context)
        asked = [
            ResultsRequest(file, split, nuscenes, prepared, official, force, version, subset, command)
            for file in _different(results)
        ]
        _print(
            [evaluate_results(request, store, session.progress()) for request in asked],
            split,
            store,
            session.progress(),
            shown,
        )
        return
    if subset or version is not None:
        raise UsageError(f"{'--subset' if subset else '--version'} goes with --results FILE only.")
    names: list[str | None] = [*_all_models(store)] if every else [*dict.fromkeys(model)] if model else [None]
    from crkd_core.artifacts.configuration import resolve_nms
    from crkd_core.artifacts.find_model import find_model
    from crkd_core.stages.evaluate import EvaluateRequest

    requests = [
        EvaluateRequest(
            model=name,
            split=split,
            nuscenes=nuscenes,
            device=device,
            batch_size=batch_size,
            workers=workers,
            force=force,
            prepared=prepared,
            nms=resolve_nms(find_model(store, name, "crkd evaluate"), preset, config, overrides or ())
            if changed
            else None,
            official=official,
            command=session.command(context),
        )
        for name in names
    ]
    _print(
        evaluate_models(requests, store, session.progress(), skip_unusable=every),
        split,
        store,
        session.progress(),
        shown,
    )


def _different(files: list[Path]) -> list[Path]:
    """Each file once, however its path was spelled; another name of the same file is another detector."""
    chosen: dict[tuple[str, str], Path] = {}
    for file in files:
        chosen.setdefault((os.path.realpath(file), file.name), file)
    return list(chosen.values())


@dataclass(frozen=True)
class Shown:
    """What is shown of evaluations beyond their scores, and how."""

    kinds: tuple[str, ...]
    resamples: int | None
    curves: bool
    as_json: bool


def _print(
    results: "list[EvaluateResult]", split: str, workspace: "Workspace", progress: "Progress", shown: Shown
) -> None:
    from crkd_core.evaluation.identity import titles_of

    found = [_analyse(result, workspace, progress, shown) for result in results]
    titles = titles_of([result.artifact for result in results])
    if shown.as_json:
        models = [
            _to_json(result, title) | analysis.to_json() for result, title, analysis in zip(results, titles, found)
        ]
        console.print_lines(json.dumps({"split": split, "models": models}, indent=2))
        return
    print_scores(results, titles)
    for title, analysis in zip(titles, found):
        analysis.show(title, shown.kinds)


def _analyse(result: "EvaluateResult", workspace: "Workspace", progress: "Progress", shown: Shown) -> Analysis:
    if result.metrics is None:
        return Analysis()
    from crkd_core.evaluation.report import breakdown_of, read_diagnoses
    from crkd_core.visualization.evaluation_curves import score_curves

    table = breakdown_of(result.artifact, workspace, shown.resamples, progress)
    pictures = score_curves(result.artifact, workspace) if shown.curves else ()
    return Analysis(read_diagnoses(result.artifact), table.to_pylist(), pictures)


def _all_models(workspace: "Workspace") -> list[str]:
    from crkd_core.artifacts.find_model import MODEL_STAGES

    names = [artifact.label for stage in MODEL_STAGES for artifact in reversed(list(workspace.newest_first(stage)))]
    if not names:
        make = workspace.command("crkd train-teacher")
        raise UsageError(f"--all: {workspace.root} has no trained model; make one with: {make}")
    return names


def evaluate_models(
    requests: "list[EvaluateRequest]", workspace: "Workspace", progress: "Progress", skip_unusable: bool
) -> "list[EvaluateResult]":
    """Evaluate one model after the other; stale and damaged ones are skipped with a warning if `skip_unusable`."""
    from crkd_core.stages.evaluate import evaluate

    results = []
    problem: StaleArtifactError | DamagedArtifactError | None = None
    for request in requests:
        try:
            results.append(evaluate(request, workspace, progress))
        except (StaleArtifactError, DamagedArtifactError) as error:
            if not skip_unusable:
                raise
            problem = error
            progress.warning(f"left out: {error}")
    if not results and problem is not None:
        raise problem
    return results


def print_scores(results: "list[EvaluateResult]", titles: list[str]) -> None:
    """One row per model, the classes of a single one, and where everything is.

    Without annotations (the test split) there are no scores, only submissions.

    Args:
        titles: what to call the models.
    """
    if all(result.metrics is None for result in results):
        _print_submissions(results, titles)
        return
    table = console.make_table(["model", "mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE"], numbers_from=1)
    for title, result in zip(titles, results):
        if result.metrics is not None:
            summary = (result.metrics.mean_ap, result.metrics.nds, *result.metrics.errors)
            table.add_row(title, *(_number(value) for value in summary))
    console.print_table(table)
    if len(results) == 1 and results[0].metrics is not None:
        _print_classes(results[0].metrics)
    console.print_facts((title, result.artifact.path) for title, result in zip(titles, results))
    console.print_lines(*(line for title, result in zip(titles, results) for line in _parts(title, result)))
    compared = [result.official_difference for result in results if result.official_difference is not None]
    if compared:
        console.print_lines(f"The nuScenes devkit agrees: the largest difference is {max(compared):.1e}.")


def _parts(title: str, result: "EvaluateResult") -> list[str]:
    """What is to be said of scores that are not on a whole split."""
    scored, of_split = result.samples
    if scored == of_split:
        return []
    return [f"{title} was scored on {scored:,} of {of_split:,} samples of {result.split}, not on all."]


def _print_submissions(results: "list[EvaluateResult]", titles: list[str]) -> None:
    console.print_lines(f"The annotations of {results[0].split} are not public; submit these files to be scored:")
    console.print_facts((title, result.submission) for title, result in zip(titles, results))
    console.print_lines(*(line for title, result in zip(titles, results) for line in _parts(title, result)))


def _print_classes(metrics: "Metrics") -> None:
    table = console.make_table(["class", "AP", "ATE", "ASE", "AOE", "AVE", "AAE"], numbers_from=1)
    for name, scores in metrics.classes.items():
        table.add_row(name, *(_number(value) for value in (scores.ap, *scores.errors)))
    console.print_table(table)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"


def _to_json(result: "EvaluateResult", title: str) -> dict:
    return {
        "model": title,
        "artifact": str(result.artifact.path),
        "samples": result.samples[0],
        "samples_of_split": result.samples[1],
        "metrics": result.metrics.to_json(strict=True) if result.metrics is not None else None,
        "official_difference": result.official_difference,
    }
