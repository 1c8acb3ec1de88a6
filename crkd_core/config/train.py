"""Section ``train``: optimiser, schedule and loader of the three training runs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from crkd_core.config.numbers import MOST_BATCH, MOST_WORKERS, Count, Fraction, NonNegative, Positive, PositiveInt, Seed
from crkd_core.config.sections import Distinct, Name, OmittedAtDefault, Section

RecomputedPart = Literal["backbone", "neck", "decoder", "head"]
WeightsKind = Literal["last", "ema", "best"]


class RunConfig(Section):
    """What differs between the teacher's, the plain student's and the distillation run."""

    epochs: PositiveInt = Field(20, le=100_000, description="passes over the training samples")
    learning_rate: Positive = Field(2e-4, le=100, description="peak learning rate of AdamW")
    batch_size: PositiveInt = Field(4, le=MOST_BATCH, description="samples a batch and process")
    accumulate: Annotated[PositiveInt, OmittedAtDefault] = Field(
        1,
        le=MOST_BATCH,
        description="batches a step and process: their gradients are added up before the optimiser moves; the losses "
        "are those of one batch of all their samples, batch norms (if not frozen) still see one batch at a time",
    )
    backbone_multiplier: Positive = Field(1.0, description="factor on the image backbone's learning rate")
    backbone_weights: Name = Field(
        "auto",
        description="what the image backbone starts from, unless the run starts from another: the name of imported "
        "weights (crkd import-weights --as backbone), none for random ones, auto for the latest that fit, if any",
    )
    validate_every: Annotated[Count, OmittedAtDefault] = Field(
        0,
        description="epochs between scorings of the split val (and once at the end), the best weights being kept; 0: "
        "never. With ema_decay it is the averaged weights that are scored",
    )
    final_weights: Annotated[WeightsKind, OmittedAtDefault] = Field(
        "last",
        description="which weights the finished run stands for, in evaluate, extract-teacher, --init and "
        "export-weights; the other kinds are kept beside them (evaluate --weights): last: of the last step; ema: "
        "their average (ema_decay); best: of the best validated epoch (validate_every)",
    )

    @model_validator(mode="after")
    def _has_best(self) -> "RunConfig":
        if self.final_weights == "best" and not self.validate_every:
            raise ValueError("final_weights best needs validated epochs; set validate_every to 1 or more")
        return self


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
    normalise_over_ranks: Annotated[bool, OmittedAtDefault] = Field(
        False,
        description="divide losses by the objects of all processes' batches of a step, so that processes x batch_size "
        "is one batch; false: by those of each process's own, then average over processes",
    )
    sync_batch_norm: Annotated[bool, OmittedAtDefault] = Field(
        False,
        description="batch norms (of images, maps, points and voxels) take their statistics over all processes' "
        "batches instead of each process's own; for small batches on several GPUs",
    )
    ema_decay: Annotated[Fraction, OmittedAtDefault] = Field(
        0.0,
        lt=1,
        description="decay a step of a moving average of the weights, e.g. 0.999; 0: none. It begins at 1/10 and rises "
        "as (1 + steps) / (10 + steps), so that first weights are forgotten",
    )
    validate_samples: Annotated[Count, OmittedAtDefault] = Field(
        0, description="samples of val, evenly spaced, that validate_every scores; 0: all"
    )
    validate_metric: Annotated[Literal["nds", "mean_ap"], OmittedAtDefault] = Field(
        "nds", description="by which score of validate_every an epoch is the best"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="autocast type; auto: bf16 where the GPU has it, else fp16 on a GPU, fp32 on a CPU"
    )
    compile: bool = Field(
        False,
        description="compile the trained detector's dense parts (torch.compile): a slow first step, faster ones after",
    )
    recompute: Annotated[tuple[RecomputedPart, ...], Distinct, OmittedAtDefault] = Field(
        (),
        description="parts whose activations are not kept for the backward pass but computed again, block by block: "
        "less memory, the same gradients, up to a third more time",
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

    @model_validator(mode="after")
    def _fit_together(self) -> "TrainConfig":
        for name in ("teacher", "student", "distill"):
            run: RunConfig = getattr(self, name)
            if run.final_weights == "ema" and not self.ema_decay:
                raise ValueError(f"{name}.final_weights ema needs an average; set ema_decay to 0.999, for instance")
        if self.compile and self.recompute:
            raise ValueError("recompute does not go with compile, which decides itself what to keep; set one of them")
        return self
