"""The plan of an ablation: its rows, and the students that they need in the order to train them."""

from dataclasses import dataclass

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.loading import with_overrides
from crkd_core.config.schema import Config
from crkd_core.stages.ablate.request import AblateRequest, check_request
from crkd_core.stages.ablate.rows import COMPARISONS, ShownVariant, canonical
from crkd_core.stages.ablate.variants import STAGE, Variant, run_of
from crkd_core.stages.distill import DistillRequest
from crkd_core.stages.evaluate import EvaluateRequest
from crkd_core.training.student import STAGE as STUDENT_STAGE


@dataclass(frozen=True)
class AblationStudent:
    """One student to train and score.

    Attributes:
        name: of its run.
        start: name of the run whose weights it begins with; None for new weights.
        config: of its run.
    """

    variant: Variant
    seed: int
    name: str
    start: str | None
    config: Config

    @property
    def epochs(self) -> int:
        """Length of its training."""
        train = self.config.train
        return (train.student if self.start is None else train.distill).epochs

    def training(self, targets: str | None, request: AblateRequest) -> DistillRequest:
        """Its training, with the teacher targets of that name."""
        return DistillRequest(
            config=self.config,
            losses=self.variant.losses,
            targets=targets,
            init=self.start or "none",
            name=self.name,
            prepared=request.prepared,
            nuscenes=request.nuscenes,
            device=request.device,
            force=request.force,
            resume=request.resume,
        )

    def scoring(self, request: AblateRequest) -> EvaluateRequest:
        """Its evaluation."""
        return EvaluateRequest(
            model=f"{STUDENT_STAGE}/{self.name}",
            split=request.split,
            nuscenes=request.nuscenes,
            device=request.device,
            workers=request.config.train.workers,
            force=request.force,
            prepared=request.prepared,
        )


@dataclass(frozen=True)
class AblationPlan:
    """What is trained and compared.

    Attributes:
        students: each once, seed by seed, each after the one that it starts from.
        continued: the configuration of students that go on from a plain one.
    """

    rows: tuple[ShownVariant, ...]
    students: tuple[AblationStudent, ...]
    continued: Config

    @property
    def variants(self) -> dict[Variant, Config]:
        """Every variant once, with the configuration of its last student."""
        return {student.variant: student.config for student in self.students}


def plan_students(request: AblateRequest, workspace: Workspace) -> AblationPlan:
    """Rows and students of a request.

    Raises:
        UsageError: there are no such comparisons or seeds, the split has no annotations, or the name is none.
        ConfigError: a row, or what `set_after` says, does not fit the configuration.
    """
    check_request(request)
    workspace.folder(STAGE, request.table_name)
    continued = with_overrides(request.config, request.set_after, option="--set-after")

    def base(variant: Variant) -> Config:
        return request.config if variant.start is None else continued

    def trained_as(variant: Variant) -> Variant:
        return canonical(variant, base(variant))

    rows = tuple(
        ShownVariant(comparison, row, trained_as(row.variant))
        for comparison in request.comparisons
        for row in COMPARISONS[comparison]
    )
    starts = {row.variant: trained_as(row.variant.start) for row in rows if row.variant.start is not None}
    variants = dict.fromkeys(v for row in rows for v in (starts.get(row.variant), row.variant) if v is not None)
    students = tuple(
        AblationStudent(
            variant,
            seed,
            f"{run_of(variant)}-s{seed}",
            f"{run_of(starts[variant])}-s{seed}" if variant in starts else None,
            variant.resolve(base(variant), seed),
        )
        for seed in request.seeds
        for variant in variants
    )
    return AblationPlan(rows, students, continued)
