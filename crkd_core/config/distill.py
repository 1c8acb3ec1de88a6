"""Section ``distill``: the four losses and the teacher targets."""

from typing import Literal

from pydantic import Field

from crkd_core.config.sections import PositiveInt, Range, Section

LossName = Literal["csrd", "msfd", "reld", "respd"]
LOSS_NAMES: tuple[LossName, ...] = ("csrd", "msfd", "reld", "respd")
Reading = Literal["released", "paper"]


class CSRDConfig(Section):
    """Cross-stage radar distillation (section 3.3.1)."""

    weight: float = Field(100.0, ge=0, description="weight in the total")
    target: Literal["heatmap", "lidar_feature"] = Field(
        "heatmap", description="what teaches the radar: the teacher's heatmaps, or the strength of its LiDAR map"
    )
    reading: Reading = Field(
        "released",
        description="of the heatmaps, released: sigmoid of the mean logit of a task, mean over tasks; paper: mean of "
        "all classes' sigmoids; the loss itself is the same",
    )
    object_weight: float = Field(
        0.0, ge=0, description="a cell counts 1 + this x its target / the sample's mean target; published: 0, all alike"
    )
    negative_slope: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="slope of the radar activation below zero while training; published: 0, a plain ReLU, which at "
        "high learning rates ends up at zero everywhere and learns no more",
    )


class MSFDConfig(Section):
    """Mask-scaling feature distillation (section 3.3.2)."""

    camera_weight: float = Field(10.0, ge=0, description="weight of the gated camera maps' term")
    fused_weight: float = Field(10.0, ge=0, description="weight of the fused maps' term")
    reading: Reading = Field(
        "released",
        description="released: mean of 1/2 (T - S)^2 over mask cells, over B again; paper: 1/(B X Y) sum |T - S|",
    )
    mask: Literal["rotated", "released", "plain"] = Field(
        "rotated", description="grown boxes: exact rotated footprints, or the released rectangles; plain: not grown"
    )
    range_steps_m: tuple[float, float] = Field(
        (20.0, 30.0), description="ranges from which masks grow by 25% and by 50% (m)"
    )
    speed_steps_mps: tuple[float, float] = Field(
        (0.3, 0.8), description="speeds along an axis from which it grows by 25% and by 50% (m/s)"
    )
    growth: tuple[float, float] = Field((0.25, 0.5), description="relative growth of a side at the two steps")
    growth_limits_m: Range = Field((0.5, 4.0), description="smallest and largest growth of a side (m)")
    adapter: bool = Field(
        False,
        description="the student's maps pass a 1x1 conv of their own, trained with it; published: none. For detectors "
        "whose channels have nothing in common, such as image backbones trained from random weights",
    )


class RelDConfig(Section):
    """Relation distillation (section 3.3.3)."""

    weight: float = Field(0.25, ge=0, description="weight in the total")
    scales: tuple[int, ...] = Field((32, 16, 8, 4), description="cells a side of the resampled maps")
    affinity: Literal["dot", "cosine"] = Field(
        "dot", description="dot (released) or cosine-normalised (paper) affinity"
    )
    reading: Reading = Field(
        "released",
        description="released: the mean over the batch is divided by the batch size once more; paper: it is not (its "
        "affinity is cosine)",
    )
    adapter: bool = Field(True, description="student passes a 3x3 conv, ReLU, 1x1 conv per scale")


class RespDConfig(Section):
    """Response distillation (section 3.3.4)."""

    weight: float = Field(1.0, ge=0, description="weight in the total")
    task_weights: tuple[float, ...] = Field(
        (2.0, 2.0, 2.0, 1.0, 2.0, 1.0), description="weight of each head task; dynamic classes count double"
    )
    positive_threshold: float = Field(0.3, gt=0, lt=1, description="teacher probability of a positive heatmap cell")
    box_threshold: float = Field(0.1, gt=0, lt=1, description="summed teacher heatmap from which boxes are compared")
    box_scale: float = Field(
        40.0, ge=0, description="factor of the released regression term (10 channels x 4); the paper's has none"
    )
    box_weights: tuple[float, float, float, float] = Field(
        (1.0, 1.0, 1.0, 1.0),
        description="weight of the regression term's channels: place (offset, height), size, yaw, velocity; 0 leaves "
        "to the ground truth what the teacher knows no better",
    )
    reading: Reading = Field(
        "released",
        description="of the regression term, released: smooth L1 weighted by the teacher's heatmap, times box_scale; "
        "paper: plain smooth L1; the heatmap term is the same",
    )


class TargetsConfig(Section):
    """Teacher targets on disk."""

    views: PositiveInt = Field(4, description="augmented views kept of a sample; epochs cycle through them")
    storage: Literal["fp32", "fp16", "int8"] = Field(
        "fp16", description="precision of the stored tensors: fp32 equals the live teacher, int8 is half of fp16"
    )
    flips: bool = Field(
        False, description="when all views were shown, go on with the same views mirrored in x, in y, in both"
    )
    samples_per_shard: PositiveInt = Field(64, description="samples and views in one shard file")
    seed: int = Field(
        0, ge=0, description="seed of the stored views; students of any train.seed replay them from the targets"
    )


class DistillConfig(Section):
    """Losses, their weights and the teacher targets."""

    losses: tuple[LossName, ...] = Field(LOSS_NAMES, description="loss terms in the objective; empty: no distillation")
    until: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the training after which the losses stop, so that it ends on the ground truth alone; "
        "published: 1, to the end",
    )
    csrd: CSRDConfig = Field(default_factory=CSRDConfig, description="cross-stage radar distillation")
    msfd: MSFDConfig = Field(default_factory=MSFDConfig, description="mask-scaling feature distillation")
    reld: RelDConfig = Field(default_factory=RelDConfig, description="relation distillation")
    respd: RespDConfig = Field(default_factory=RespDConfig, description="response distillation")
    targets: TargetsConfig = Field(default_factory=TargetsConfig, description="teacher targets")
    released_quirks: tuple[Literal["teacher_train_mode", "radar_columns", "mask"], ...] = Field(
        (), description="mistakes of the published runs to repeat for comparison"
    )
