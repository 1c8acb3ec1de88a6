"""Matching a file's tensors with those a model expects."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from crkd_core.errors import ConfigError, UsageError

StateDict = dict[str, Tensor]

# How often a batch norm has seen a batch. Files of early torch versions lack it, and nothing is computed from it.
COUNTERS = ".num_batches_tracked"
BUFFERS = (".running_mean", ".running_var", COUNTERS)
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_SHOWN = 3


def match_tensors(
    state: Mapping[str, Tensor],
    expected: Mapping[str, torch.Size],
    shown_as: Mapping[str, str] | None = None,
    also_missing: Iterable[str] = (),
) -> StateDict:
    """The tensors of `state` in the order of `expected`, in float32; absent batch counters are 0.

    Args:
        shown_as: how messages call a tensor, where not by its key.
        also_missing: names of further tensors that the file should have had.

    Raises:
        ConfigError: tensors are missing, unexpected or of another shape; says how many and the first few.
        UsageError: weights are not finite floating-point numbers.
    """
    names = shown_as or {}
    missing = [*also_missing, *(key for key in expected if key not in state and not key.endswith(COUNTERS))]
    unexpected = [key for key in state if key not in expected]
    reshaped = [key for key, shape in expected.items() if key in state and state[key].shape != shape]
    problems = [
        listed("missing", [names.get(key, key) for key in missing]),
        listed("unexpected", [names.get(key, key) for key in unexpected]),
        listed(
            "of another shape",
            [f"{names.get(key, key)} {tuple(state[key].shape)} instead of {tuple(expected[key])}" for key in reshaped],
        ),
    ]
    if any(problems):
        fitting = sum(key in state for key in expected) - len(reshaped)
        raise ConfigError(
            f"the file does not fit the configuration: {fitting} of {len(expected)} tensors do, "
            f"{'; '.join(problem for problem in problems if problem)}"
        )
    matched = {key: _converted(key, state[key]) if key in state else _no_batches() for key in expected}
    _check_values(state, matched, names)
    return matched


def agrees(tensor: Tensor, expected: Tensor) -> bool:
    """Whether a file's constant is the expected one, as far as its number type can say."""
    if tensor.shape != expected.shape or tensor.is_complex():
        return False
    # A copy in half precision has rounded its constants too.
    rtol = max(1e-4, torch.finfo(tensor.dtype).eps) if tensor.is_floating_point() else 1e-4
    return torch.allclose(tensor.double(), expected.double(), rtol=rtol, atol=1e-3)


def listed(what: str, names: list[str]) -> str:
    """``3 missing (a, b, c)``, the first few names; nothing where there are none."""
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})"


def _no_batches() -> Tensor:
    return torch.zeros((), dtype=torch.long)


def _converted(key: str, tensor: Tensor) -> Tensor:
    if not key.endswith(COUNTERS):
        return tensor.float() if tensor.dtype in _FLOATS else tensor
    # A counter beyond what half precision reaches has become infinite in a copy.
    readable = not tensor.is_complex() and bool(tensor.isfinite().all())
    return tensor.long() if readable else _no_batches()


def _check_values(state: Mapping[str, Tensor], matched: StateDict, names: Mapping[str, str]) -> None:
    weights = {key: tensor for key, tensor in matched.items() if not key.endswith(COUNTERS)}

    def keys_where(applies: Callable[[str, Tensor], bool]) -> list[str]:
        return [names.get(key, key) for key, tensor in weights.items() if applies(key, tensor)]

    types = {str(state[key].dtype).removeprefix("torch.") for key in weights if state[key].dtype not in _FLOATS}
    if types:
        others = listed(
            f"of type {', '.join(sorted(types))}", keys_where(lambda key, _: state[key].dtype not in _FLOATS)
        )
        raise UsageError(f"the file's weights are no floating-point numbers: {others}; give a copy in float32")
    problems = [
        listed("with NaN or infinity", keys_where(lambda _, tensor: not bool(tensor.isfinite().all()))),
        listed(
            "with negative variances", keys_where(lambda key, t: key.endswith(".running_var") and bool((t < 0).any()))
        ),
    ]
    if any(problems):
        raise UsageError(
            f"the file's weights are unusable: {'; '.join(problem for problem in problems if problem)}; its training "
            "diverged or a half-precision copy overflowed: use another checkpoint"
        )
