"""Section ``distill``: the losses and the teacher targets.

A loss has a section of its own here, its name in :data:`LossName`, and a field of that name in :class:`DistillConfig`;
its formula is in ``crkd_core/distillation``. Fields that decide what is stored of the teacher say so where they are
defined (:data:`DecidesTarget`): whether stored targets still fit is computed from these marks.
"""

from collections.abc import Collection
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import Field

from crkd_core.config.description import MOST_CLASSES
from crkd_core.config.description_files import nuscenes
from crkd_core.config.models import DetectorConfig
from crkd_core.config.numbers import Fraction, NonNegative, PositiveInt, Probability, Seed, Share, Steps
from crkd_core.config.sections import Distinct, Section

LossName = Literal["csrd", "msfd", "reld", "respd"]
LOSS_NAMES: tuple[LossName, ...] = get_args(LossName)
Variant = Literal["released", "paper"]
Quirk = Literal["teacher_train_mode", "radar_columns", "mask"]
# RelD compares every cell with every other one: 128 cells a side are 1 GiB a sample.
Side = Annotated[PositiveInt, Field(le=128)]


class _Mark:
    """Metadata of a field; pydantic hands it through."""


DecidesTarget = _Mark()
"""Of a field ``name: Annotated[TYPE, DecidesTarget]``: another value makes other teacher targets."""


class LossSection(Section):
    """Base of the losses' sections."""

    @classmethod
    def target_fields(cls) -> tuple[str, ...]:
        """Fields that decide what is stored of the teacher, in their order."""
        return tuple(name for name, field in cls.model_fields.items() if DecidesTarget in field.metadata)

    def target_settings(self) -> dict[str, Any]:
        """Those fields and their values, as a manifest holds them."""
        return self.model_dump(mode="json", include=set(self.target_fields()))

    def with_quirks(self, quirks: Collection[Quirk]) -> "LossSection":
        """The section as the published runs' mistakes change it."""
        return self

    def misfit(self, student: DetectorConfig, teacher: DetectorConfig) -> str | None:
        """Why the loss cannot compare these two detectors, as far as a configuration can tell; None where it can."""
        return None


class CSRDConfig(LossSection):
    """Cross-stage radar distillation (section 3.3.1)."""

    weight: NonNegative = Field(100.0, description="weight in the total")
    target: Annotated[Literal["heatmap", "lidar_feature"], DecidesTarget] = Field(
        "heatmap", description="what teaches the radar: the teacher's heatmaps, or the strength of its LiDAR map"
    )
    reading: Annotated[Variant, DecidesTarget] = Field(
        "released",
        description="of the heatmaps, released: sigmoid of the mean logit of a task, mean over tasks; paper: mean of "
        "all classes' sigmoids; the loss itself is the same",
    )
    object_weight: NonNegative = Field(
        0.0, description="a cell counts 1 + this x its target / the sample's mean target; published: 0, all alike"
    )
    negative_slope: Fraction = Field(
        0.0,
        lt=1,
        description="slope of the radar activation below zero while training; published: 0, a plain ReLU, which at "
        "high learning rates ends up at zero everywhere and learns no more",
    )


class MSFDConfig(LossSection):
    """Mask-scaling feature distillation (section 3.3.2)."""

    camera_weight: NonNegative = Field(10.0, description="weight of the gated camera maps' term")
    fused_weight: NonNegative = Field(10.0, description="weight of the fused maps' term")
    reading: Annotated[Variant, DecidesTarget] = Field(
        "released",
        description="released: mean of 1/2 (T - S)^2 over mask cells, over B again; paper: 1/(B X Y) sum |T - S|",
    )
    mask: Annotated[Literal["rotated", "released", "plain"], DecidesTarget] = Field(
        "rotated", description="grown boxes: exact rotated footprints, or the released rectangles; plain: not grown"
    )
    range_steps_m: Annotated[Steps, DecidesTarget] = Field(
        (20.0, 30.0), description="ranges from which masks grow by 25% and by 50% (m)"
    )
    speed_steps_mps: Annotated[Steps, DecidesTarget] = Field(
        (0.3, 0.8), description="speeds along an axis from which it grows by 25% and by 50% (m/s)"
    )
    growth: Annotated[Steps, DecidesTarget] = Field(
        (0.25, 0.5), description="relative growth of a side at the two steps"
    )
    growth_limits_m: Annotated[Steps, DecidesTarget] = Field(
        (0.5, 4.0), description="smallest and largest growth of a side (m)"
    )
    adapter: bool = Field(
        False,
        description="the student's maps pass a 1x1 conv of their own, trained with it; published: none. For detectors "
        "whose channels have nothing in common, such as image backbones trained from random weights",
    )

    def with_quirks(self, quirks: Collection[Quirk]) -> "MSFDConfig":
        """With the released masks where the quirk ``mask`` asks for them."""
        return self.model_copy(update={"mask": "released"}) if "mask" in quirks else self

    def misfit(self, student: DetectorConfig, teacher: DetectorConfig) -> str | None:
        """Maps of different widths."""
        both_fused = len(teacher.modalities) == len(student.modalities) == 2
        if self.fused_weight > 0 and both_fused and teacher.fuser.channels != student.fuser.channels:
            return (
                "msfd compares fused maps, so teacher.fuser.channels and student.fuser.channels must be equal, "
                f"found {teacher.fuser.channels} and {student.fuser.channels}"
            )
        both_cameras = "camera" in teacher.modalities and "camera" in student.modalities
        widths = [detector.camera.view_transform.channels for detector in (teacher, student)]
        if self.camera_weight > 0 and both_cameras and widths[0] != widths[1]:
            return (
                "msfd compares camera BEV maps, so view_transform.channels of teacher and student must be "
                f"equal, found {widths[0]} and {widths[1]}"
            )
        return None


class RelDConfig(LossSection):
    """Relation distillation (section 3.3.3)."""

    weight: NonNegative = Field(0.25, description="weight in the total")
    scales: Annotated[tuple[Side, ...], DecidesTarget] = Field(
        (32, 16, 8, 4), min_length=1, max_length=16, description="cells a side of the resampled maps"
    )
    affinity: Literal["dot", "cosine"] = Field(
        "dot", description="dot (released) or cosine-normalised (paper) affinity"
    )
    reading: Variant = Field(
        "released",
        description="released: the mean over the batch is divided by the batch size once more; paper: it is not (its "
        "affinity is cosine)",
    )
    adapter: bool = Field(True, description="student passes a 3x3 conv, ReLU, 1x1 conv per scale")


class RespDConfig(LossSection):
    """Response distillation (section 3.3.4)."""

    weight: NonNegative = Field(1.0, description="weight in the total")
    task_weights: tuple[NonNegative, ...] = Field(
        default_factory=lambda: nuscenes().response_weights,
        min_length=1,
        max_length=MOST_CLASSES,
        description="weight of each head task; dynamic classes count double",
    )
    positive_threshold: Probability = Field(0.3, description="teacher probability of a positive heatmap cell")
    box_threshold: Annotated[Probability, DecidesTarget] = Field(
        0.1, description="summed teacher heatmap from which boxes are compared"
    )
    box_scale: NonNegative = Field(
        40.0, description="factor of the released regression term (10 channels x 4); the paper's has none"
    )
    box_weights: tuple[NonNegative, NonNegative, NonNegative, NonNegative] = Field(
        (1.0, 1.0, 1.0, 1.0),
        description="weight of the regression term's channels: place (offset, height), size, yaw, velocity; 0 leaves "
        "to the ground truth what the teacher knows no better",
    )
    reading: Variant = Field(
        "released",
        description="of the regression term, released: smooth L1 weighted by the teacher's heatmap, times box_scale; "
        "paper: plain smooth L1; the heatmap term is the same",
    )


class TargetsConfig(Section):
    """Teacher targets on disk."""

    views: PositiveInt = Field(4, le=1000, description="augmented views kept of a sample; epochs cycle through them")
    storage: Literal["fp32", "fp16", "int8"] = Field(
        "fp16", description="precision of the stored tensors: fp32 equals the live teacher, int8 is half of fp16"
    )
    flips: bool = Field(
        False, description="when all views were shown, go on with the same views mirrored in x, in y, in both"
    )
    samples_per_shard: PositiveInt = Field(64, le=100_000, description="samples and views in one shard file")
    seed: Seed = Field(
        0, description="seed of the stored views; students of any train.seed replay them from the targets"
    )


class DistillConfig(Section):
    """Losses, their weights and the teacher targets."""

    losses: Annotated[tuple[LossName, ...], Distinct] = Field(
        LOSS_NAMES, description="loss terms in the objective; empty: no distillation"
    )
    until: Share = Field(
        1.0,
        description="share of the training after which the losses stop, so that it ends on the ground truth alone; "
        "published: 1, to the end",
    )
    csrd: CSRDConfig = Field(default_factory=CSRDConfig, description="cross-stage radar distillation")
    msfd: MSFDConfig = Field(default_factory=MSFDConfig, description="mask-scaling feature distillation")
    reld: RelDConfig = Field(default_factory=RelDConfig, description="relation distillation")
    respd: RespDConfig = Field(default_factory=RespDConfig, description="response distillation")
    targets: TargetsConfig = Field(default_factory=TargetsConfig, description="teacher targets")
    released_quirks: Annotated[tuple[Quirk, ...], Distinct] = Field(
        (), description="mistakes of the published runs to repeat for comparison"
    )

    def section(self, loss: str) -> LossSection:
        """A loss's section as it is used, with the quirks that concern it."""
        return cast(LossSection, getattr(self, loss)).with_quirks(self.released_quirks)
