"""How good the teacher of stored targets is, on the samples that its students learn from."""

from pathlib import Path

from crkd_core.artifacts.atomic import write_json
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import DatasetError
from crkd_core.evaluation.io.detections import read_parts
from crkd_core.evaluation.nuscenes.scoring import score_detections
from crkd_core.progress import Progress
from crkd_core.teacher_cache.item_plan import ItemPlan, detections_part

DETECTIONS_NAME = "teacher_detections.parquet"
METRICS_NAME = "teacher_metrics.json"
POOR_MEAN_AP = 0.05
"""Below this mAP on its own training samples a teacher is warned of."""


def score_teacher(folder: Path, plan: ItemPlan, prepared: PreparedData, progress: Progress) -> dict[str, float | None]:
    """The facts ``teacher_mean_ap`` and ``teacher_nds`` from the detections of all shards; None where nothing is
    annotated.

    Detections and metrics are written into the folder too; the shards' own parts stay.
    """
    table = read_parts(folder, [detections_part(shard) for shard in plan.scored_shards])
    write_table(folder / DETECTIONS_NAME, table)
    try:
        metrics = score_detections(prepared, plan.tokens, table).metrics
    except DatasetError as error:
        progress.warning(f"the teacher cannot be scored: {error}")
        return {"teacher_mean_ap": None, "teacher_nds": None}
    write_json(folder / METRICS_NAME, metrics.to_json())
    return {"teacher_mean_ap": metrics.mean_ap, "teacher_nds": metrics.nds}


def warn_of_poor_teacher(targets: Artifact, progress: Progress) -> None:
    """Say it if the teacher of stored targets finds next to nothing in the samples it was trained on."""
    mean_ap = targets.manifest.facts.get("teacher_mean_ap")
    if mean_ap is not None and mean_ap < POOR_MEAN_AP:
        progress.warning(
            f"the teacher of {targets.label} hardly finds anything: its mAP on the training samples is {mean_ap:.3f}; "
            "students learn its mistakes (too few epochs, a broken checkpoint?)"
        )
