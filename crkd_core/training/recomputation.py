"""Parts of a detector whose activations are computed again in the backward pass instead of being kept.

Of every block (a residual or Swin block, a stage of plain convolutions, a task's head) only the input is kept. What is
computed again is what was computed first: the same random numbers, the same batch statistics, which are not taken into
the running ones a second time. So gradients and buffers are bit-equal wherever the operations themselves are.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from crkd_core.config.train import RecomputedPart
from crkd_core.models.detector import Detector


def recompute(detector: Detector, parts: Sequence[RecomputedPart]) -> None:
    """Let the blocks of these parts compute their activations again; parts that the detector does not have are left."""
    camera = detector.camera
    modules: dict[RecomputedPart, nn.Module | None] = {
        "backbone": None if camera is None else camera.backbone,
        "neck": None if camera is None else camera.neck,
        "decoder": detector.decoder,
        "head": detector.head,
    }
    for part in parts:
        for block in blocks_of(modules[part]):
            _recompute_block(block)


def blocks_of(part: nn.Module | None) -> Iterator[nn.Module]:
    """The largest modules of a part that are no mere lists of others: each is called once, with all that it needs."""
    for child in part.children() if part is not None else ():
        is_list = isinstance(child, nn.ModuleList | nn.ModuleDict)  # which nobody calls
        if is_list or (isinstance(child, nn.Sequential) and any(map(_has_children, child.children()))):
            yield from blocks_of(child)
        elif _has_children(child):
            yield child


def _has_children(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def _recompute_block(block: nn.Module) -> None:
    compute = block.forward

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _statistics_kept(block)

    def forward(*inputs: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return compute(*inputs)
        return checkpoint(compute, *inputs, use_reentrant=False, context_fn=contexts)

    block.forward = forward  # type: ignore[method-assign]


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norms take the batch into copies of their running statistics, for the length of the block."""
    norms = [part for part in block.modules() if isinstance(part, _BatchNorm)]
    buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
