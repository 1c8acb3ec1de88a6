"""What a report shows, as plain values: writing it needs neither files nor models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.visualization.training_curves import RecordedTraining

Row = Mapping[str, Any]
"""One row of ``breakdown_table`` or ``comparison_table``."""


@dataclass(frozen=True)
class ReportModel:
    """One evaluated model.

    Attributes:
        sensors: that it sees; "" where a results file does not say.
        metrics: None where the annotations are not public.
        breakdown: rows of ``breakdown_table``; none where an earlier version did not write it.
        training: None where its run is not there, or recorded nothing.
    """

    name: str
    sensors: str = ""
    metrics: Metrics | None = None
    breakdown: Sequence[Row] = ()
    training: RecordedTraining | None = None

    def row(self, kind: str, part: str, class_name: str) -> Row | None:
        """Scores on a slice; None where there are no such objects."""
        key = kind, part, class_name
        return next((row for row in self.breakdown if (row["kind"], row["slice"], row["class"]) == key), None)


@dataclass(frozen=True)
class ReportComparison:
    """A finished comparison: `rows` of ``comparison_table``, differences of the second from the first."""

    first: str
    second: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class ReportPicture:
    """One picture: file name beside the page, what it shows, and what became of it in a sentence for each panel."""

    file: str
    token: str
    scene: str
    condition: str
    outcomes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
        title: what was evaluated.
        facts: a few more words on it, each with a name.
        models: in the order of the panels of a picture.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    models: Sequence[ReportModel]
    comparisons: Sequence[ReportComparison] = ()
    pictures: Sequence[ReportPicture] = ()
