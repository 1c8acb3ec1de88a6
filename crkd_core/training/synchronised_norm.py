"""Batch norms whose statistics are those of all processes' batches together, on CPU and GPU.

torch's own SyncBatchNorm runs on GPUs only, and refuses the few or missing vectors that a batch of points may have.
Each process gives number, mean and summed squared deviations of its vectors, which combine exactly (Chan, Golub and
LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances"), so that a process without any
vector takes part like the others.
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crkd_core.training.distributed import ProcessGroup


class _Statistics(torch.autograd.Function):
    """Number, mean and biased variance of every channel over all processes; gradients reach every process's vectors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        number = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x, axes, correction=0) if number else (x.new_zeros(x.shape[1]),) * 2
        own = torch.cat([x.new_tensor([number]), mean, variance * number])
        parts = [torch.empty_like(own) for _ in range(group.size())]
        dist.all_gather(parts, own, group=group)
        numbers, means, deviations = torch.stack(parts).double().split([1, x.shape[1], x.shape[1]], dim=1)
        total = numbers.sum()
        divisor = total.clamp(min=1)
        mean_of_all = (numbers * means).sum(dim=0) / divisor
        of_all = (deviations + numbers * (means - mean_of_all).square()).sum(dim=0) / divisor
        ctx.group = group
        ctx.save_for_backward(x, mean_of_all.to(x), divisor.to(x))
        return total.to(x), mean_of_all.to(x), of_all.to(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, mean, divisor = ctx.saved_tensors
        _, of_mean, of_variance = gradients
        summed = torch.cat([of_mean, of_variance])
        dist.all_reduce(summed, group=ctx.group)
        shape = (1, -1, *(1 for _ in range(x.dim() - 2)))
        of_mean, of_variance = (part.view(shape) / divisor for part in summed.chunk(2))
        return of_mean + 2 * of_variance * (x - mean.view(shape)), None


class SynchronisedNorm(_BatchNorm):
    """A batch norm [N, C, ...] over the batches of all processes of a group.

    With fewer than two vectors altogether the running statistics are used, as in ``PointNorm``.

    Args:
        norm: the one that it replaces: parameters, buffers and their names stay the same.
    """

    def __init__(self, norm: _BatchNorm, group: dist.ProcessGroup) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)
        self._group = group

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of further dimensions."""

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        full = x.to(torch.promote_types(x.dtype, torch.float32))
        number, mean, variance = cast("tuple[Tensor, Tensor, Tensor]", _Statistics.apply(full, self._group))
        running_mean, running_var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        is_enough = number >= 2
        mean, variance = torch.where(is_enough, mean, running_mean), torch.where(is_enough, variance, running_var)
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * number / (number - 1).clamp(min=1), is_enough)
        shape = (1, -1, *(1 for _ in range(x.dim() - 2)))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return ((full - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased: Tensor, is_enough: Tensor) -> None:
        share = is_enough.to(mean) * (self.momentum or 0.0)
        cast(Tensor, self.running_mean).lerp_(mean, share)
        cast(Tensor, self.running_var).lerp_(unbiased, share)
        cast(Tensor, self.num_batches_tracked).add_(is_enough.long())


def synchronise_norms(module: nn.Module, processes: ProcessGroup) -> None:
    """Let all batch norms of a module take their statistics over all processes; nothing on a single one.

    State-dict names stay the same.
    """
    if processes.size == 1:
        return
    # A group of its own: its exchanges may not mix with those of gradients, whose order differs from rank to rank.
    group = dist.new_group()
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SynchronisedNorm(child, group))
