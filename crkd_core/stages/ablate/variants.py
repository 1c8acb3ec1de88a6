"""Variants of a student, the ways in which ``crkd ablate`` trains it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from crkd_core.config.distill import LossName
from crkd_core.config.loading import with_overrides
from crkd_core.config.schema import Config

STAGE = "ablate"
_PAPER_WIDTHS = (80, 256, 256)


@dataclass(frozen=True)
class Variant:
    """One way to train a student, apart from the seed.

    Attributes:
        name: part of the run's name.
        losses: of the objective; () is no distillation.
        start: whose weights (of the same seed) it begins with and is then trained on for the distillation's epochs;
            None: it is a plain student with new weights.
        overrides: changes of the configuration, besides those of `start`.
        widths: channels of camera map, radar map and fused map in a detector of the paper's widths; a detector of other
            widths gets its own in the same proportion.
        task_weights: of RespD: one for all head tasks, or those of the data set's description; None: as configured.
    """

    name: str
    losses: tuple[str, ...] = ()
    start: "Variant | None" = None
    overrides: tuple[str, ...] = ()
    widths: tuple[int, int, int] = _PAPER_WIDTHS
    task_weights: Literal["uniform", "described"] | None = None

    def resolve(self, config: Config, seed: int) -> Config:
        """The configuration of its run.

        Raises:
            ConfigError: the configuration does not allow it.
        """
        losses = f"distill.losses=[{', '.join(self.losses)}]"
        begun = self.start.overrides if self.start is not None else ()
        own = (*self.overrides, *self._width_overrides(config), *self._weight_overrides(config))
        return with_overrides(config, [losses, f"train.seed={seed}", *begun, *own])

    def _weight_overrides(self, config: Config) -> list[str]:
        if self.task_weights is None:
            return []
        described = config.dataset.response_weights
        weights = [1.0] * len(described) if self.task_weights == "uniform" else list(described)
        return [f"distill.respd.task_weights={weights}"]

    def _width_overrides(self, config: Config) -> list[str]:
        if self.widths == _PAPER_WIDTHS:
            return []
        student = config.student
        own = (student.camera.view_transform.channels, student.radar.channels[-1], student.fuser.channels)
        camera, radar, fused = (
            max(round(width * channels / paper), 1)
            for width, channels, paper in zip(self.widths, own, _PAPER_WIDTHS, strict=True)
        )
        radar_channels = [*student.radar.channels[:-1], radar]
        return [
            f"student.camera.view_transform.channels={camera}",
            f"student.radar.channels={radar_channels}",
            f"student.fuser.channels={fused}",
        ]


CONV = Variant("conv", overrides=("student.fuser.kind=conv",))
GATED = Variant("gated", overrides=("student.fuser.kind=gated",))
FLAT = Variant("flat", overrides=(*GATED.overrides, "data.radar.elevation=false"))
CONTROL = Variant("control", start=GATED)


def distilled(losses: Sequence[str], choice: str = "", *overrides: str) -> Variant:
    """The gated student, trained on with losses and settings of a name."""
    return Variant("-".join((*losses, choice) if choice else losses), tuple(losses), GATED, overrides)


def respd_and(loss: LossName, choice: str, *overrides: str) -> Variant:
    """The same with RespD and one loss more."""
    return distilled(("respd", loss), choice, *overrides)


def run_of(variant: Variant) -> str:
    """Name of the runs of a variant, before ``-s<seed>``."""
    return f"{STAGE}-{variant.name}"
