"""From the values of a checkpoint file to one state dict: containers, averaged weights (EMA), names added by wrappers.

Training code keeps weights in a dictionary beside optimiser, epoch and averaged weights, and wraps models in others
that lengthen their names. EMA hooks differ in where the average is:

- most keep it in a container of its own (``model_ema``, ``ema``, ``state_dict_ema``, ...);
- mmengine exchanges the two when it saves: ``state_dict`` is the average, ``ema_state_dict`` the plain weights;
- mmcv keeps buffers ``ema_backbone_conv1_weight`` beside ``backbone.conv1.weight``, and has exchanged the two where it
  saved after an epoch, but not where it saved after an iteration. The file does not say which.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crkd_core.errors import UsageError
from crkd_core.weights.matching import StateDict, listed

# The usual containers of weights; the first of them counts.
_CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "params",
    "weights",
)
_AVERAGED_WORDS = frozenset({"ema", "swa", "averaged", "average"})
_NOT_WEIGHTS = ("optim", "sched", "scaler", "callback", "loops", "hyper", "meta", "config", "args", "rng", "_metadata")
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# What averaging classes count beside the weights.
_BOOKKEEPING = frozenset({"n_averaged", "steps", "num_updates", "decay"})
_FLAT_AVERAGE = "ema_"
_DEEPEST = 8
_EITHER = (
    "every weight is there twice, under its name and as ema_...; mmcv exchanges the two when it saves after an epoch, "
    "so that either may be the average: without --ema the named are taken, with it the others"
)


@dataclass(frozen=True)
class ChosenWeights:
    """One state dict of a file.

    Attributes:
        state: its tensors, without components of wrappers in their names.
        notes: what was chosen where there was a choice.
    """

    state: StateDict
    notes: tuple[str, ...] = ()


def choose_weights(values: Any, averaged: bool, source: str) -> ChosenWeights:
    """The plain or the averaged weights among a file's values.

    Args:
        source: the file, for messages.

    Raises:
        UsageError: there are none, or several and no telling which; tensors that are not plain ones in memory; one
            name twice.
    """
    plain = _without_wrappers(_weights_within(values, source), source)
    containers = _averaged_containers(values)
    if containers and _by_mmengine(values):
        chosen, note = plain, "mmengine keeps the averaged weights as state_dict: these are taken"
    elif averaged:
        chosen, note = _average(plain, containers, source)
    else:
        chosen, note = _plain(plain, containers, source)
    if not chosen:
        raise UsageError(f"{source} holds no named tensors, {_instead(values)}; give a file with a model's state dict")
    _check_plain(chosen, source)
    return ChosenWeights(chosen, (note,) if note else ())


def _plain(state: StateDict, containers: Mapping[str, Any], source: str) -> tuple[StateDict, str]:
    plain, averages = _split(state)
    if any(_flat_name(name) in averages for name in plain):
        return plain, _EITHER
    beside = [*containers, *dict.fromkeys(name.partition(".")[0] for name in averages)]
    if beside and not plain:
        raise UsageError(f"{source} holds averaged weights only ({_shown(beside)}); take them with --ema")
    return plain, f"the file holds averaged weights too ({_shown(beside)}); --ema takes them" if beside else ""


def _average(state: StateDict, containers: Mapping[str, Any], source: str) -> tuple[StateDict, str]:
    for key, container in containers.items():
        chosen = _without_wrappers(_weights_within(container, source), source)
        if chosen:
            return chosen, f"the averaged weights are taken ({key})"
    plain, averages = _split(state)
    if any(_flat_name(name) in averages for name in plain):
        return {name: averages.get(_flat_name(name), tensor) for name, tensor in plain.items()}, _EITHER
    if averages:
        tops = dict.fromkeys(name.partition(".")[0] for name in averages)
        inside = {name.partition(".")[2]: tensor for name, tensor in averages.items()}
        return inside, f"the averaged weights are taken ({_shown(list(tops))})"
    raise UsageError(f"{source} holds no averaged weights (such as ema, model_ema, state_dict_ema); leave out --ema")


def _weights_within(values: Any, source: str) -> Mapping[str, Tensor]:
    """The state dict in nested containers, the usual ones first; empty where there is none."""
    visited: set[int] = set()

    def search(container: Any, depth: int) -> Mapping[str, Tensor]:
        # A container may hold itself, or others twice: each is looked at once.
        if not isinstance(container, Mapping) or id(container) in visited or depth > _DEEPEST:
            return {}
        visited.add(id(container))
        inner = {str(key): value for key, value in container.items() if isinstance(value, Mapping)}
        for key in _CONTAINERS:
            if key in inner and (state := search(inner[key], depth + 1)):
                return state
        named = {str(key): value for key, value in container.items() if isinstance(value, Tensor)}
        if any("." in name for name in named):
            return named
        others = {key: value for key, value in inner.items() if not (_is_averaged(key) or _is_other(key))}
        states = {key: state for key, value in others.items() if (state := search(value, depth + 1))}
        if len(states) > 1:
            raise UsageError(
                f"{source} holds several state dicts ({_shown(list(states))}); save the one you mean alone"
            )
        return next(iter(states.values()), named)

    return search(values, 0)


def _averaged_containers(values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        return {}
    return {str(key): value for key, value in values.items() if isinstance(value, Mapping) and _is_averaged(str(key))}


def _by_mmengine(values: Any) -> bool:
    meta = values.get("meta") if isinstance(values, Mapping) else None
    return isinstance(meta, Mapping) and "mmengine_version" in meta and "ema_state_dict" in values


def _split(state: StateDict) -> tuple[StateDict, StateDict]:
    """Plain tensors, and those whose names say that they are averages."""
    plain: StateDict = {}
    averages: StateDict = {}
    for name, tensor in state.items():
        is_average = _is_averaged(name.partition(".")[0]) if "." in name else name.startswith(_FLAT_AVERAGE)
        (averages if is_average else plain)[name] = tensor
    return plain, averages


def _flat_name(name: str) -> str:
    return _FLAT_AVERAGE + name.replace(".", "_")


def _is_averaged(key: str) -> bool:
    return not _AVERAGED_WORDS.isdisjoint(re.split(r"[_\W]+", key.lower()))


def _is_other(key: str) -> bool:
    return key == "state" or any(word in key.lower() for word in _NOT_WEIGHTS)


def _shown(names: list[str]) -> str:
    return ", ".join(names[:3])


def _instead(values: Any) -> str:
    if not isinstance(values, Mapping):
        return f"but one {type(values).__name__}"
    if "param_groups" in values or any("optim" in str(key) for key in values):
        return "only an optimiser's state"
    keys = ", ".join(repr(str(key)) for key in list(values)[:3])
    return f"only {keys or 'an empty dictionary'}"


def _check_plain(state: Mapping[str, Tensor], source: str) -> None:
    kinds: dict[str, list[str]] = {}
    for name, tensor in state.items():
        kind = _unusual_kind(tensor)
        if kind is not None:
            kinds.setdefault(kind, []).append(name)
    if kinds:
        problems = "; ".join(listed(kind, names) for kind, names in kinds.items())
        raise UsageError(f"{source} has tensors without plain values: {problems}; save dense ones in floating point")


def _unusual_kind(tensor: Tensor) -> str | None:
    if tensor.is_meta:
        return "meta, without data"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "sparse or nested"
    return None if type(tensor) in (Tensor, torch.nn.Parameter) else "of a special class"


def _without_wrappers(state: Mapping[str, Tensor], source: str) -> StateDict:
    renamed: StateDict = {}
    for name, tensor in state.items():
        if name in _BOOKKEEPING:
            continue
        short = ".".join(part for part in name.split(".") if part not in _WRAPPERS) or name
        if short in renamed:
            raise UsageError(f"{source} holds {short} twice, with and without a wrapper's prefix; save one state dict")
        renamed[short] = tensor
    return renamed
