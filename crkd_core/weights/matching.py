"""Matching a file's tensors with those a model expects."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from crkd_core.errors import ConfigError

StateDict = dict[str, Tensor]

# How often a batch norm has seen a batch. Files of early torch versions lack it, and nothing is computed from it.
COUNTERS = ".num_batches_tracked"
BUFFERS = (".running_mean", ".running_var", COUNTERS)
_SHOWN = 3


def match_tensors(
    found: Mapping[str, Tensor],
    expected: Mapping[str, torch.Size],
    shown_as: Mapping[str, str] | None = None,
    also_missing: Iterable[str] = (),
) -> StateDict:
    """The tensors of `found` in the order of `expected`, half-precision ones in float32; absent batch counters are 0.

    Args:
        shown_as: how messages call a tensor, where not by its key.
        also_missing: names of further tensors that the file should have had.

    Raises:
        ConfigError: tensors are missing, unexpected or of another shape; says how many and the first few.
    """
    names = shown_as or {}
    missing = [*also_missing, *(key for key in expected if key not in found and not key.endswith(COUNTERS))]
    unexpected = [key for key in found if key not in expected]
    reshaped = [key for key, shape in expected.items() if key in found and found[key].shape != shape]
    problems = [
        _listed("missing", [names.get(key, key) for key in missing]),
        _listed("unexpected", [names.get(key, key) for key in unexpected]),
        _listed(
            "of another shape",
            [f"{names.get(key, key)} {tuple(found[key].shape)} instead of {tuple(expected[key])}" for key in reshaped],
        ),
    ]
    if any(problems):
        raise ConfigError(
            f"the file does not fit the configuration, {len(expected)} tensors expected: "
            f"{'; '.join(problem for problem in problems if problem)}"
        )
    matched = {}
    for key in expected:
        tensor = found[key] if key in found else torch.zeros((), dtype=torch.long)
        matched[key] = tensor.float() if tensor.is_floating_point() else tensor
    return matched


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})"
