"""Checks of an ablation before its first student is trained."""

from collections.abc import Sequence

from crkd_core.artifacts.run_config import read_detector_config
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.models import Modality
from crkd_core.config.schema import Config
from crkd_core.config.split_names import TRAIN
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import PreparedSource, find_prepared, open_prepared
from crkd_core.distillation.requirements import check_terms
from crkd_core.errors import UsageError
from crkd_core.stages.ablate.plan import plan_students
from crkd_core.stages.ablate.request import AblateRequest
from crkd_core.stages.ablate.teacher_targets import fitting_targets
from crkd_core.stages.ablate.variants import FLAT, STAGE
from crkd_core.stages.train_teacher import STAGE as TEACHER_STAGE
from crkd_core.teacher_cache.settings import check_teacher
from crkd_core.training.distributed import choose_device

_NEEDED_FOR = f"crkd {STAGE}"


def check_ablation(request: AblateRequest, workspace: Workspace) -> None:
    """Refuse at once whatever would end an ablation only after students were trained; nothing is written.

    Raises:
        MissingArtifactError: there is no teacher, or nothing is prepared.
        UsageError: a name, split, seed, comparison or device is none.
        ConfigError: a row does not fit the configuration, the teacher or the prepared data.
        StaleArtifactError: the teacher has another grid or other images.
        DatasetError: a split is empty, or the folder of the sensor files is not there.
    """
    configs = plan_students(request, workspace).variants
    choose_device(request.device)
    modalities = tuple(dict.fromkeys(name for config in configs.values() for name in config.student.modalities))
    prepared = [_open_prepared(request, config, modalities, workspace) for config in configs.values()][-1]
    prepared.tokens(TRAIN)
    if FLAT in configs and not prepared.description.radar_points.elevation:
        raise UsageError(
            f"radar-elevation needs radars that measure elevation, and those of {prepared.artifact.label} do not; "
            "choose other comparisons."
        )
    check_split(request, workspace)
    taught = [config for variant, config in configs.items() if variant.losses]
    if not taught:
        return
    teacher = workspace.find(TEACHER_STAGE, request.teacher, needed_for=_NEEDED_FOR, make=f"crkd {TEACHER_STAGE}")
    check_teacher(teacher, request.config, request.command)
    detector = read_detector_config(teacher)
    for config in taught:
        check_terms(config.distill, config.data.grid.build(), config.student, detector)
        if fitting_targets(config, teacher, prepared.artifact, workspace) is None:
            _open_prepared(request, config, detector.modalities, workspace)


def check_split(request: AblateRequest, workspace: Workspace) -> None:
    """Refuse a split that no prepared data have, or that is empty.

    Raises:
        MissingArtifactError: nothing is prepared.
        UsageError: there is no such split.
        DatasetError: it is empty.
    """
    prepared = find_prepared(workspace, request.prepared, _NEEDED_FOR, PreparedSource(request.split))
    PreparedData(prepared).tokens(request.split)


def _open_prepared(
    request: AblateRequest, config: Config, modalities: Sequence[Modality], workspace: Workspace
) -> PreparedData:
    source = PreparedSource(TRAIN)
    return open_prepared(workspace, request.prepared, request.nuscenes, config.data, modalities, _NEEDED_FOR, source)
