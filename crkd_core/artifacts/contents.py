"""What the manifests of the stages must hold: the facts, settings and inputs that later stages read without asking.

A manifest that carries its own checksum is what its stage wrote. Manifests of the first versions of crkd have none, and
are held against this.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Values(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=True)


class _PreparedFacts(_Values):
    dataroot: str
    version: str
    samples_per_split: dict[str, int]
    samples: int
    annotations: int
    radar_points: int
    missing: list[str]


class _PreparedSettings(_Values):
    version: str
    radar_sweeps: int
    lidar_sweeps: int


class _TrainedFacts(_Values):
    epochs: int
    steps: int
    final: dict[str, float | None]


class _ImportedFacts(_Values):
    tensors: int
    parameters: int


class _Detector(_Values):
    modalities: list[str]


class _Data(_Values):
    grid: dict[str, Any] = Field(min_length=1)


class _TrainedSettings(_Values):
    role: Literal["teacher", "student"]
    detector: _Detector
    data: _Data


class _TargetFacts(_Values):
    items: int
    views: int
    bytes: int
    shards: int
    teacher_mean_ap: float | None


class _TargetSettings(_Values):
    losses: list[str]
    grid: dict[str, Any] = Field(min_length=1)


class _EvaluationFacts(_Values):
    model: str
    modalities: list[str]
    split: str
    samples: int
    extent_m: float
    mean_ap: float | None = None
    nds: float | None = None


class _EvaluationSettings(_Values):
    split: str


class _ComparisonFacts(_Values):
    first: str
    second: str
    split: str


class _BackboneSettings(_Values):
    backbone: dict[str, Any] = Field(min_length=1)


@dataclass(frozen=True)
class _Contents:
    """What a stage writes; of several kinds of facts, one."""

    facts: tuple[type[_Values], ...] = (_Values,)
    settings: type[_Values] = _Values
    inputs: tuple[str, ...] = ()


_OF_STAGES = {
    "prepare": _Contents((_PreparedFacts,), _PreparedSettings),
    "train-teacher": _Contents((_TrainedFacts, _ImportedFacts), _TrainedSettings),
    "extract-teacher": _Contents((_TargetFacts,), _TargetSettings, ("teacher", "prepared")),
    "distill": _Contents((_TrainedFacts, _ImportedFacts), _TrainedSettings),
    "evaluate": _Contents((_EvaluationFacts,), _EvaluationSettings, ("prepared",)),
    "compare": _Contents((_ComparisonFacts,), inputs=("first", "second")),
    "import-weights": _Contents(settings=_BackboneSettings),
}


def contents_problem(
    stage: str, facts: dict[str, Any], settings: dict[str, Any], inputs: Collection[str]
) -> str | None:
    """What a manifest lacks of what its stage writes; None where nothing."""
    expected = _OF_STAGES.get(stage, _Contents())
    absent = [role for role in expected.inputs if role not in inputs]
    if absent:
        return f"inputs.{absent[0]}: Field required"
    problems = [_first_problem("facts", kind, facts) for kind in expected.facts]
    return _first_problem("settings", expected.settings, settings) or (problems[0] if all(problems) else None)


def _first_problem(what: str, kind: type[_Values], values: dict[str, Any]) -> str | None:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, (what, *first['loc'])))}: {first['msg']}"
    return None
