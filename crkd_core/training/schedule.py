"""AdamW with its parameter groups, and the learning rate over time."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from crkd_core.config.train import RunConfig, TrainConfig

# Position tables of transformer backbones are not decayed (as published).
_UNDECAYED = ("absolute_pos_embed", "relative_position_bias_table")
_BACKBONE = "camera.backbone."


def learning_rate_factor(step: int, steps_per_epoch: int, epochs: int, config: TrainConfig) -> float:
    """Fraction of the peak learning rate at a step (counted from 0) of a run.

    A cosine from 1 to ``final_ratio`` over all epochs, times a linear warm-up from ``warmup_ratio``. With
    ``cosine: epoch`` the cosine moves only between epochs, as in the released code.
    """
    if config.cosine == "epoch":
        progress = (step // steps_per_epoch) / epochs
    else:
        progress = step / (steps_per_epoch * epochs)
    factor = config.final_ratio + (1 - config.final_ratio) * (1 + math.cos(math.pi * progress)) / 2
    if step < config.warmup_steps:
        factor *= 1 - (1 - step / config.warmup_steps) * (1 - config.warmup_ratio)
    return factor


def build_optimizer(module: nn.Module, run: RunConfig, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the trained parameters, the image backbone's with its own multiplier.

    Every group has an ``initial_lr``, its peak; :func:`set_learning_rate` scales it.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            multiplier = run.backbone_multiplier if _BACKBONE in name else 1.0
            decay = 0.0 if name.endswith(_UNDECAYED) else config.weight_decay
            groups.setdefault((multiplier, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": run.learning_rate * multiplier,
                "initial_lr": run.learning_rate * multiplier,
                "weight_decay": decay,
            }
            for (multiplier, decay), parameters in groups.items()
        ],
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """Scale gradients to a total norm of at most `limit`; returns the norm before (not finite after an overflow)."""
    return float(nn.utils.clip_grad_norm_(list(parameters), limit))
