"""What a data report looks like on stdout: a few lines of facts, then what its user should look at."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from crkd_cli import console
from crkd_core.progress import format_count

if TYPE_CHECKING:
    from crkd_core.datasets.prepared.data_report import DataReport, Range
    from crkd_core.stages.prepare import CheckResult, PrepareResult

_WIDTH = 80
_NAMED = 3


def print_prepared(result: "PrepareResult") -> None:
    """What was prepared, and its report."""
    facts = [
        ("prepared", result.artifact.path),
        ("version", result.version),
        ("samples", _counts(result.samples_per_split)),
        ("annotations", result.annotations),
    ]
    if result.report is None:
        console.print_facts([*facts, *(("missing", line) for line in result.missing)])
        return
    console.print_facts([*facts, *_report_facts(result.report)])
    _print_warnings(result.report)


def print_checked(result: "CheckResult", nuscenes: Path) -> None:
    """The report of what would be prepared."""
    facts = [
        ("checked", f"{nuscenes} (nothing is written)"),
        ("version", result.version),
        ("samples", _counts(result.report.samples.per_split)),
        ("annotations", result.report.boxes.total),
    ]
    console.print_facts([*facts, *_report_facts(result.report)])
    _print_warnings(result.report)


def _counts(samples_per_split: dict[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in samples_per_split.items())


def _report_facts(report: "DataReport") -> list[tuple[str, str]]:
    boxes, sensors, motion = report.boxes, report.sensors, report.motion
    facts = []
    if boxes.total:
        points, velocity = (_share(part, boxes.total) for part in (boxes.without_points, boxes.without_velocity))
        facts.append(("", f"of {len(boxes.per_class)} classes, {points} without points, {velocity} without velocity"))
    if boxes.ignored:
        facts.append(
            (
                "not detected",
                f"{format_count(boxes.ignored, 'box', 'boxes')} of other categories{_named(boxes.ignored_categories)}",
            )
        )
    facts.append(("images", f"{', '.join(sensors.image_sizes) or 'none'} px"))
    facts.append(("LiDAR", "none" if sensors.without_lidar else f"{_range(sensors.lidar_sweeps)} sweeps a sample"))
    facts.append(("radar", f"{_range(sensors.radar_points)} points a sample"))
    apart = f"{_range(motion.spacing_s, 2)} s apart, " if motion.spacing_s.high else ""
    facts.append(("key frames", f"{apart}in {format_count(report.samples.scenes, 'scene')}"))
    speeds = [f"the car up to {motion.ego_mps.high:.1f} m/s"] if motion.spacing_s.high else []
    if motion.fastest_class:
        speeds.append(f"boxes up to {motion.box_mps.high:.1f} m/s ({motion.fastest_class})")
    if speeds:
        facts.append(("speeds", ", ".join(speeds)))
    return facts


def _print_warnings(report: "DataReport") -> None:
    lines = []
    for warning in report.warnings:
        lines += textwrap.wrap(
            f"warning: {warning}", _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    if lines:
        console.print_lines("", *lines)


def _range(values: "Range", decimals: int = 0) -> str:
    low, median, high = (f"{value:,.{decimals}f}" for value in (values.low, values.median, values.high))
    return low if low == high else f"{low} to {high} (median {median})"


def _share(part: int, total: int) -> str:
    share = part / total
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _named(counts: dict[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    names = [f"{name} {count}" for name, count in most[:_NAMED]]
    if len(most) > _NAMED:
        names.append(f"{len(most) - _NAMED} more")
    return f" ({', '.join(names)})" if names else ""
