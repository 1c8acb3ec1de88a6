"""``crkd evaluate``."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crkd_cli import console, options
from crkd_cli.analysis import KINDS, analysis_to_json, check_kinds, complete_kind, print_analysis
from crkd_cli.groups import grouped
from crkd_cli.scores import print_scores, scores_to_json
from crkd_cli.session import session_of
from crkd_core.errors import DamagedArtifactError, StaleArtifactError, UsageError

if TYPE_CHECKING:
    from crkd_core.artifacts.workspace import Workspace
    from crkd_core.config.models import NMSConfig
    from crkd_core.progress import Progress
    from crkd_core.stages.evaluate import EvaluateRequest, EvaluateResult, ResultsRequest

ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="Name of a trained model, may be repeated; the latest student.",
        autocompletion=options.complete_model,
        show_default=False,
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every trained model of the workspace.")]
ResultsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--results",
        metavar="FILE",
        help="Score a result file (submission JSON) of any detector instead; may be repeated.",
        show_default=False,
    ),
]
SubsetOption = Annotated[
    bool, typer.Option("--subset", help="With --results: the files have only some samples; score these.")
]
SplitOption = Annotated[
    str, typer.Option("--split", help="Samples to score: train, val, trainval, test, or a split of splits.json.")
]
VersionOption = Annotated[
    str | None,
    typer.Option("--version", help="With --results and --nuscenes: table folder to score with.", show_default=False),
]
NuscenesOption = Annotated[
    Path | None,
    typer.Option(
        "--nuscenes",
        help="Folder of the sensor files, if it has moved since crkd prepare; with --results, the tables there are "
        "enough.",
    ),
]
OfficialOption = Annotated[
    bool,
    typer.Option(
        "--official",
        help="Run the data set's devkit too (nuscenes-devkit or truckscenes-devkit); fail if its metrics differ by "
        "1e-9 or more.",
    ),
]
BreakdownOption = Annotated[
    list[str] | None,
    typer.Option(
        "--breakdown",
        metavar="KIND",
        help=f"Show scores of parts, may be repeated: {', '.join(KINDS)}.",
        autocompletion=complete_kind,
        show_default=False,
    ),
]
ResamplesOption = Annotated[
    int | None,
    typer.Option(
        "--bootstrap",
        metavar="N",
        min=0,
        max=options.MOST_RESAMPLES,
        help="Resamples of the scenes for intervals; 200.",
    ),
]
CurvesOption = Annotated[bool, typer.Option("--curves", help="Draw precision and errors over recall.")]
JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@grouped
def evaluate(
    context: typer.Context,
    workspace: options.WorkspaceOption = options.DEFAULT_WORKSPACE,
    model: ModelsOption = None,
    every: AllOption = False,
    results: ResultsOption = None,
    subset: SubsetOption = False,
    split: SplitOption = "val",
    prepared: options.PreparedOption = None,
    version: VersionOption = None,
    nuscenes: NuscenesOption = None,
    batch_size: options.BatchSizeOption = 4,
    workers: options.LoaderOption = 2,
    precision: options.PrecisionOption = "fp32",
    weights: options.WeightsOption = None,
    official: OfficialOption = False,
    breakdown: BreakdownOption = None,
    resamples: ResamplesOption = None,
    curves: CurvesOption = False,
    as_json: JSONOption = False,
    force: options.ForceOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
    *,
    config: options.ConfigOptions,
    machine: options.MachineOptions,
) -> None:
    """Score detections with the metrics of their data set: a trained model's, or those in a file.

    A model is evaluated as it was trained; of its configuration, --set may change how boxes are selected:
    --set student.head.nms.score_threshold=0.05

    If it is stopped, the same command continues with the batches that are missing.
    """
    check_kinds(breakdown or ())
    if every and model:
        raise UsageError("--all and --model exclude each other.")
    session = session_of(context)
    store = session.workspace(workspace)
    if results and (every or model or config.is_named or config.overrides):
        raise UsageError("--results scores a file as it is: leave out --all, --model, --preset, --config and --set.")
    if results and (machine.gpus or machine.processes or precision != "fp32" or weights):
        raise UsageError("--results runs no model: leave out --gpus, --processes, --precision and --weights.")
    if not results and (subset or version is not None):
        raise UsageError(f"{'--subset' if subset else '--version'} goes with --results FILE only.")
    from crkd_core.evaluation.report import AnalysisRequest
    from crkd_core.stages.evaluate import EvaluateRequest, ResultsRequest

    analysis, command = AnalysisRequest(resamples, curves), session.command(context)
    requests: list[EvaluateRequest | ResultsRequest] = [
        ResultsRequest(file, split, nuscenes, prepared, official, force, version, subset, analysis, command)
        for file in _different(results or [])
    ]
    models = [] if results else [(name, _box_selection(store, name, config)) for name in _models(store, every, model)]
    device = "cpu" if results else machine.spread(session)
    for name, selection in models:
        requests.append(
            EvaluateRequest(
                model=name,
                split=split,
                nuscenes=nuscenes,
                device=device,
                batch_size=batch_size,
                workers=workers,
                precision=precision,
                weights=weights,
                force=force,
                prepared=prepared,
                nms=selection,
                official=official,
                analysis=analysis,
                command=command,
            )
        )
    done = evaluate_all(requests, store, session.progress(), device, skip_unusable=every)
    if session.is_first:
        _show(done, split, breakdown or (), as_json)


def _different(files: list[Path]) -> list[Path]:
    """Each file once, however its path was spelled; another name of the same file is another detector."""
    chosen: dict[tuple[str, str], Path] = {}
    for file in files:
        chosen.setdefault((os.path.realpath(file), file.name), file)
    return list(chosen.values())


def _models(workspace: "Workspace", every: bool, named: list[str] | None) -> Sequence[str | None]:
    """Names of the models to evaluate; None for the latest."""
    if not every:
        return [*dict.fromkeys(named)] if named else [None]
    from crkd_core.artifacts.find_model import MODEL_STAGES

    names = [artifact.label for stage in MODEL_STAGES for artifact in reversed(list(workspace.newest_first(stage)))]
    if not names:
        make = workspace.command("crkd train-teacher")
        raise UsageError(f"--all: {workspace.root} has no trained model; make one with: {make}")
    return names


def _box_selection(workspace: "Workspace", name: str | None, config: options.ConfigOptions) -> "NMSConfig | None":
    """How boxes are selected, where the configuration says it; None for the model's own."""
    if not (config.is_named or config.overrides):
        return None
    from crkd_core.artifacts.configuration import resolve_nms
    from crkd_core.artifacts.find_model import find_model

    model = find_model(workspace, name, "crkd evaluate")
    return resolve_nms(model, config.preset, config.config, config.overrides or ())


def evaluate_all(
    requests: "Sequence[EvaluateRequest | ResultsRequest]",
    workspace: "Workspace",
    progress: "Progress",
    device: str,
    skip_unusable: bool,
) -> "list[EvaluateResult]":
    """Evaluate one model or file after the other; stale and damaged models are left out if `skip_unusable`.

    Returns nothing on every process but the first.
    """
    from crkd_core.stages.evaluate import evaluate
    from crkd_core.training.distributed import process_group

    results = []
    problem: StaleArtifactError | DamagedArtifactError | None = None
    with process_group(device) as processes:
        for request in requests:
            try:
                result = evaluate(request, workspace, progress)
            except (StaleArtifactError, DamagedArtifactError) as error:
                # Several processes must leave out the same: models that each of them can tell to be unusable.
                if not skip_unusable or (processes.size > 1 and _is_usable(request, workspace)):
                    raise
                problem = error
                if processes.is_first:
                    progress.warning(f"left out: {error}")
            else:
                results += [result] if result is not None else []
        if processes.is_first and not results and problem is not None:
            raise problem
    return results


def _is_usable(request: "EvaluateRequest | ResultsRequest", workspace: "Workspace") -> bool:
    from crkd_core.artifacts.find_model import find_model
    from crkd_core.stages.evaluate import EvaluateRequest

    try:
        if isinstance(request, EvaluateRequest):
            find_model(workspace, request.model, "crkd evaluate")
    except (StaleArtifactError, DamagedArtifactError):
        return False
    return True


def _show(results: "list[EvaluateResult]", split: str, kinds: Sequence[str], as_json: bool) -> None:
    from crkd_core.evaluation.identity import titles_of

    titles = titles_of([result.artifact for result in results])
    if as_json:
        models = [
            scores_to_json(result, title) | analysis_to_json(result.analysis) for result, title in zip(results, titles)
        ]
        console.print_lines(json.dumps({"split": split, "models": models}, indent=2))
        return
    print_scores(results, titles)
    for result, title in zip(results, titles):
        if result.analysis is not None:
            print_analysis(title, result.analysis, kinds)
