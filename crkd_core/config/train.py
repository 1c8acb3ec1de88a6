"""Section ``train``: optimiser, schedule and loader of the three training runs."""

from typing import Literal

from pydantic import Field

from crkd_core.config.numbers import MOST_BATCH, MOST_WORKERS, Count, Fraction, NonNegative, Positive, PositiveInt, Seed
from crkd_core.config.sections import Name, Section


class RunConfig(Section):
    """What differs between the teacher's, the plain student's and the distillation run."""

    epochs: PositiveInt = Field(20, le=100_000, description="passes over the training samples")
    learning_rate: Positive = Field(2e-4, le=100, description="peak learning rate of AdamW")
    batch_size: PositiveInt = Field(4, le=MOST_BATCH, description="samples a step and process")
    backbone_multiplier: Positive = Field(1.0, description="factor on the image backbone's learning rate")
    backbone_weights: Name = Field(
        "auto",
        description="what the image backbone starts from, unless the run starts from another: the name of imported "
        "weights (crkd import-weights --as backbone), none for random ones, auto for the latest that fit, if any",
    )


class TrainConfig(Section):
    """Training settings shared by all runs."""

    teacher: RunConfig = Field(
        default_factory=lambda: RunConfig(backbone_multiplier=0.1), description="`crkd train-teacher`"
    )
    student: RunConfig = Field(
        default_factory=RunConfig, description="the plain student (`crkd distill --losses none`)"
    )
    distill: RunConfig = Field(
        default_factory=lambda: RunConfig(learning_rate=1e-4, batch_size=2),
        description="`crkd distill` and its equal-epoch control",
    )
    weight_decay: NonNegative = Field(0.01, le=100, description="AdamW weight decay (none on position tables)")
    warmup_steps: Count = Field(500, description="steps of linear warm-up")
    warmup_ratio: Fraction = Field(1 / 3, description="first learning rate as a fraction of the peak")
    cosine: Literal["step", "epoch"] = Field(
        "step", description="follow the cosine at every step, or once an epoch as the released code does"
    )
    final_ratio: Fraction = Field(1e-3, description="last learning rate of the cosine as a fraction of the peak")
    gradient_clip: Positive = Field(35.0, description="largest gradient norm")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="autocast type; auto: bf16 where the GPU has it, else fp16 on a GPU, fp32 on a CPU"
    )
    compile: bool = Field(
        False,
        description="compile the trained detector's dense parts (torch.compile): a slow first step, faster ones after",
    )
    log_gradients: Count = Field(
        0,
        description="steps between records of how each loss term pulls at the layers they share (norms, cosines); 0: "
        "never",
    )
    checkpoint_every_epochs: PositiveInt = Field(1, description="epochs between checkpoints")
    checkpoint_every_minutes: Positive = Field(10.0, description="minutes between checkpoints within an epoch")
    workers: Count = Field(4, le=MOST_WORKERS, description="loader processes of each training process")
    loader_timeout_s: Positive = Field(
        600.0, description="seconds without any batch from the loader processes after which a run gives up"
    )
    seed: Seed = Field(0, description="seed of initialisation, augmentation and sampling")
