"""What each stage's result looks like on stdout."""

from typing import TYPE_CHECKING

from crkd_cli import console
from crkd_cli.progress import format_seconds, sum_families

if TYPE_CHECKING:
    from crkd_core.stages.extract import ExtractResult
    from crkd_core.stages.runs import TrainResult


def print_training(result: "TrainResult | None") -> None:
    """A trained model; nothing on the processes that do not report."""
    if result is None:
        return
    losses = sum_families(
        {name.removeprefix("loss/"): value for name, value in result.losses.items() if name.startswith("loss/")}
    )
    facts: list[tuple[str, object]] = [("trained", result.artifact.path)]
    facts.append(("length", f"{result.epochs} epochs, {result.steps} steps" + _took(result.seconds, result.reused)))
    if losses:
        facts.append(("last epoch", "  ".join(f"{name} {value:.3f}" for name, value in losses.items())))
    console.print_facts(facts)


def print_extraction(result: "ExtractResult | None") -> None:
    """Teacher targets, or what ``--plan`` expects; nothing on the processes that do not report."""
    if result is None:
        return
    size = f"{console.format_size(result.bytes_total)} ({console.format_size(result.bytes_per_item)} each)"
    items = f"{result.items} (samples x {result.views} views)"
    if result.artifact is None:
        needs = f"{format_seconds(result.seconds)} on one process"
        console.print_facts([("would extract", items), ("size", size), ("time", needs)])
        return
    took = _took(result.seconds, result.reused).removeprefix(", ")
    console.print_facts([("extracted", result.artifact.path), ("items", items), ("size", size), ("time", took)])


def _took(seconds: float, reused: bool) -> str:
    return ", already there" if reused else f", in {format_seconds(seconds)}"
