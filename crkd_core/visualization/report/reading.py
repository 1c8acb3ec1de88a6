"""What a report shows, read from finished evaluations and comparisons; what cannot be read is left out."""

from collections.abc import Sequence

from crkd_core.artifacts.tables import read_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import DamagedArtifactError
from crkd_core.evaluation.finished import read_metrics
from crkd_core.evaluation.statistics.breakdown import BREAKDOWN_NAME
from crkd_core.evaluation.statistics.comparison import COMPARISON_NAME
from crkd_core.progress import Progress
from crkd_core.visualization.bev import sensor_name
from crkd_core.visualization.report.contents import Report, ReportComparison, ReportModel, ReportPicture
from crkd_core.visualization.training_curves import RecordedTraining
from crkd_core.visualization.view_reading import ShownModel


def read_report(
    models: Sequence[ShownModel],
    trainings: Sequence[RecordedTraining | None],
    comparisons: Sequence[Artifact],
    prepared: PreparedData,
    pictures: Sequence[ReportPicture],
    progress: Progress,
) -> Report:
    """The report of evaluated models, each with its training where that is recorded.

    Raises:
        DamagedArtifactError: a file of an evaluation cannot be read.
    """
    evaluated = max(model.evaluation.manifest.facts.get("samples", 0) for model in models)
    return Report(
        title=f"{', '.join(model.name for model in models)} on {models[0].split}",
        facts=[("samples", f"{evaluated} of {models[0].split}"), ("data", prepared.version)],
        models=[read_model(model, training) for model, training in zip(models, trainings, strict=True)],
        comparisons=read_comparisons(comparisons, models, progress),
        pictures=pictures,
    )


def read_model(model: ShownModel, training: RecordedTraining | None) -> ReportModel:
    """An evaluated model with its scores.

    Raises:
        DamagedArtifactError: a file of the evaluation cannot be read.
    """
    evaluation = model.evaluation
    has_breakdown = BREAKDOWN_NAME in evaluation.manifest.files
    return ReportModel(
        name=model.name,
        sensors=" + ".join(sensor_name(name) for name in model.modalities),
        metrics=read_metrics(evaluation),
        breakdown=read_table(evaluation, BREAKDOWN_NAME).to_pylist() if has_breakdown else (),
        training=training,
    )


def read_comparisons(
    comparisons: Sequence[Artifact], models: Sequence[ShownModel], progress: Progress
) -> list[ReportComparison]:
    """Finished comparisons of the shown models, by the names that the report gives these."""
    titles = {model.evaluation.name: model.name for model in models}
    read = []
    for comparison in comparisons:
        first, second = (titles[comparison.manifest.inputs[role].name] for role in ("first", "second"))
        try:
            rows = read_table(comparison, COMPARISON_NAME).to_pylist()
        except DamagedArtifactError as error:
            progress.warning(f"left out: {error}")
            continue
        read.append(ReportComparison(first, second, rows))
    return read
