"""Teacher targets for the students of an ablation: those that are there, or the extraction that makes them."""

from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.loading import with_overrides
from crkd_core.config.schema import Config
from crkd_core.stages.ablate.plan import AblationPlan, AblationStudent
from crkd_core.stages.ablate.request import AblateRequest
from crkd_core.stages.ablate.variants import STAGE, run_of
from crkd_core.stages.extract_teacher import ExtractRequest
from crkd_core.teacher_cache.settings import STAGE as EXTRACT_STAGE
from crkd_core.teacher_cache.settings import target_settings
from crkd_core.teacher_cache.teacher_input import settings_problem


def fitting_targets(config: Config, teacher: Artifact, prepared: Artifact, workspace: Workspace) -> str | None:
    """Name of the latest teacher targets that serve a student of this configuration; None where there are none."""
    made_from = {"teacher": teacher.reference(), "prepared": prepared.reference()}
    for artifact in reversed(workspace.artifacts(EXTRACT_STAGE)):
        fits = artifact.manifest.inputs == made_from and settings_problem(config, artifact) is None
        if fits and workspace.staleness(artifact) is None:
            return artifact.name
    return None


def extraction_for(
    student: AblationStudent, plan: AblationPlan, request: AblateRequest, teacher: Artifact, workspace: Workspace
) -> ExtractRequest:
    """The extraction that a student needs: of all losses at once, where its settings allow that."""
    config, name = student.config, run_of(student.variant)
    of_all_losses = with_overrides(plan.continued, [f"distill.losses=[{', '.join(LOSS_NAMES)}]"])
    own, common = target_settings(config), target_settings(of_all_losses)
    if all(common[key] == value for key, value in own.items() if key != "losses"):
        config, name = of_all_losses, f"{STAGE}-targets"
    return ExtractRequest(
        config=config,
        teacher=teacher.name,
        name=name,
        prepared=request.prepared,
        nuscenes=request.nuscenes,
        device=request.device,
        # What bears the name by now does not fit: an ablation's own targets of an earlier teacher.
        force=any(artifact.name == name for artifact in workspace.artifacts(EXTRACT_STAGE)),
        resume=request.resume,
    )
