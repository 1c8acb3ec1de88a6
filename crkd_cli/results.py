"""What each stage's result looks like on stdout."""

from typing import TYPE_CHECKING

from crkd_cli import console
from crkd_cli.progress import sum_families
from crkd_core.progress import format_count, format_seconds, format_size

if TYPE_CHECKING:
    from crkd_core.stages.extract_teacher import ExtractResult
    from crkd_core.training.run import TrainResult


def print_training(result: "TrainResult | None") -> None:
    """A trained model; nothing on the processes that do not report."""
    if result is None:
        return
    losses = sum_families(
        {name.removeprefix("loss/"): value for name, value in result.losses.items() if name.startswith("loss/")}
    )
    facts: list[tuple[str, object]] = [("trained", result.artifact.path)]
    length = f"{format_count(result.epochs, 'epoch')}, {format_count(result.steps, 'step')}"
    facts.append(("length", f"{length}{_took(result.seconds, result.reused)}"))
    if losses:
        facts.append(("last epoch", "  ".join(f"{name} {value:.3f}" for name, value in losses.items())))
    console.print_facts(facts)


def print_extraction(result: "ExtractResult | None") -> None:
    """Teacher targets, or what ``--plan`` expects; nothing on the processes that do not report."""
    if result is None:
        return
    size = f"{format_size(result.bytes_total)} ({format_size(result.bytes_per_item)} each)"
    items = f"{result.items} (samples x {format_count(result.views, 'view')})"
    if result.artifact is None:
        needs = f"{format_seconds(result.seconds)} on one process"
        console.print_facts([("would extract", items), ("size", size), ("time", needs)])
        return
    took = _took(result.seconds, result.reused).removeprefix(", ")
    facts: list[tuple[str, object]] = [("extracted", result.artifact.path), ("items", items), ("size", size)]
    facts.append(("time", took))
    if result.teacher_mean_ap is not None:
        facts.append(("teacher", f"mAP {result.teacher_mean_ap:.3f} on its training samples"))
    if result.verification is not None:
        verification = result.verification
        deviation = f"largest relative deviation {verification.largest_deviation:.1e}"
        facts.append(("verified", f"{format_count(verification.items, 'item')} against the live teacher, {deviation}"))
    console.print_facts(facts)


def _took(seconds: float, reused: bool) -> str:
    return ", already there" if reused else f", in {format_seconds(seconds)}"
