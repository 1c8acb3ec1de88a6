"""Scores of evaluations, as tables that fit a terminal and as JSON."""

from typing import TYPE_CHECKING, Any

from crkd_cli import console

if TYPE_CHECKING:
    from crkd_core.evaluation.nuscenes.metrics import Metrics
    from crkd_core.stages.evaluate import EvaluateResult


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
    compared = {
        result.official_difference: result.metrics.description.text_name
        for result in results
        if result.official_difference is not None and result.metrics is not None
    }
    if compared:
        largest = max(compared)
        console.print_lines(f"The {compared[largest]} devkit agrees: the largest difference is {largest:.1e}.")


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


def scores_to_json(result: "EvaluateResult", title: str) -> dict[str, Any]:
    """Everything of one evaluation but its analysis.

    Args:
        title: what to call it.
    """
    return {
        "model": title,
        "artifact": str(result.artifact.path),
        "samples": result.samples[0],
        "samples_of_split": result.samples[1],
        "metrics": result.metrics.to_json(strict=True) if result.metrics is not None else None,
        "official_difference": result.official_difference,
    }
