"""How far the gradients of a deep network hang on the last bit of its forward pass.

A ReLU passes a gradient or stops it; for an input within rounding of zero, the last bit decides which, and both are
right. In a whole distiller some thousand of a hundred million inputs are that near. One of them on a map of few cells
moves every gradient behind it by a hundredth, because batch norm takes away most of what all cells have in common.
With the signs held fixed, float32 noise moves no gradient by more than 1e-4 of its norm: nothing else is uncertain.

So the runner switches these inputs, and no others, between their two sides, and measures how far each gradient moves.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

ROUNDING = 2.0**-18
"""Inputs within this share of their map's largest value may have either sign: maps agree with recorded ones to that."""


class Kinks:
    """The ReLUs that a forward pass went through, and which side their uncertain inputs take in backward passes."""

    def __init__(self) -> None:
        self.uncertain = 0
        self._generator: torch.Generator | None = None
        self._opposite = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Forward passes within it go through these kinks."""
        with _Watching(self):
            yield

    def spread(self, loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, float]:
        """By name, the share of its norm that a parameter's gradient moves when uncertain inputs are switched.

        The larger of two trials, which switch complementary halves, so that every uncertain input is switched once.
        """
        usual = self._gradients(loss, parameters)
        shares = dict.fromkeys(parameters, 0.0)
        for self._opposite in (False, True):
            self._generator = torch.Generator().manual_seed(0)
            for name, gradient in self._gradients(loss, parameters).items():
                moved = float((gradient - usual[name]).norm() / usual[name].norm().clamp(min=1e-12))
                shares[name] = max(shares[name], moved)
        self._generator = None
        return shares

    def _gradients(self, loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)))

    def sides(self, inputs: Tensor) -> Tensor:
        """Where the gradient passes."""
        positive = inputs > 0
        if self._generator is None:
            return positive
        near = inputs.abs() < ROUNDING * inputs.abs().max()
        # Not drawn for all inputs, which would take longer than the rest.
        switched = torch.rand(int(near.sum()), generator=self._generator) < 0.5
        return positive.index_put((near,), positive[near] ^ (switched ^ self._opposite))


class _Switched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, kinks: Kinks) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.kinks = kinks
        kinks.uncertain += int((inputs.abs() < ROUNDING * inputs.abs().max()).sum())
        return inputs.relu()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inputs,) = ctx.saved_tensors
        return gradient * ctx.kinks.sides(inputs), None


class _Watching(TorchFunctionMode):
    def __init__(self, kinks: Kinks) -> None:
        super().__init__()
        self._kinks = kinks

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.relu, torch.Tensor.relu, torch.nn.functional.relu) and torch.is_grad_enabled():
            return _Switched.apply(args[0], self._kinks)
        return function(*args, **(kwargs or {}))
