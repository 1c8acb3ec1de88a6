"""The prepared samples that a run trains on."""

from collections.abc import Sequence

from crkd_core.artifacts.manifest import InputRef
from crkd_core.artifacts.workspace import Workspace
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import PreparedSource, check_objects, open_prepared, warn_of_misfit
from crkd_core.progress import Progress
from crkd_core.training.training_plan import TrainingRequest


def open_samples(
    request: TrainingRequest,
    modalities: Sequence[str],
    needed_for: str,
    workspace: Workspace,
    progress: Progress,
    made_from: InputRef | None = None,
) -> tuple[PreparedData, list[str]]:
    """The prepared data of a request, and the tokens of the samples of its split.

    Args:
        modalities: sensors that the run needs.
        needed_for: the command, for messages.
        made_from: prepared data that are preferred where they have the split: those of the teacher.

    Raises:
        MissingArtifactError: nothing is prepared.
        ConfigError: the configuration does not fit the prepared data.
        DatasetError: there is no object to train on.
    """
    data, source = request.config.data, PreparedSource(request.split, made_from, progress)
    prepared = open_prepared(workspace, request.prepared, request.nuscenes, data, modalities, needed_for, source)
    tokens = prepared.tokens(request.split)
    check_objects(prepared, tokens, data)
    warn_of_misfit(prepared, data, modalities, progress)
    return prepared, tokens
