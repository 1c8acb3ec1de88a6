"""When two arrays agree, and the record of what was compared in a case.

With the recorded values r, ours o, and the largest recorded magnitude ``s = max |r|``, floating-point arrays agree if

- their shapes are equal, and NaN and infinite values stand in the same places,
- ``max |o - r| <= t s``, and
- every element has ``|o - r| <= t |r| + t s / 2``,

with t = 1e-4 for maps, losses and running statistics and 1e-3 for gradients. Integers and truth values (voxel order,
indices, kept boxes, labels) must be equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tests.parity.cases import GoldenCase
from tests.parity.rules import RULES

TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
_SMALLEST_SCALE = 1e-12


@dataclass(frozen=True)
class Difference:
    """How far one compared array is off.

    Attributes:
        absolute: largest difference.
        relative: the same over the scale of the recorded array.
        agrees: whether it is within the tolerance.
        reason: why it does not agree, if there is more to say than the numbers.
    """

    key: str
    absolute: float
    relative: float
    agrees: bool
    reason: str = ""


@dataclass
class Comparison:
    """What was compared in a case, and by which rules something was left out or done differently."""

    case: GoldenCase
    differences: list[Difference] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def rule(self, name: str) -> None:
        """Note that the case needs a declared rule."""
        if name not in RULES:
            raise KeyError(f"the rule {name!r} is not declared in tests/parity/rules.py")
        if name not in self.rules:
            self.rules.append(name)

    def check(
        self,
        key: str,
        values: Any,
        *,
        where: Any = None,
        rows: NDArray[np.bool_] | None = None,
        columns: Sequence[int] | None = None,
        tolerance: float | None = None,
        scale: float | None = None,
    ) -> None:
        """Compare ours with the recorded array of this name.

        Args:
            where: mask, broadcast to the array, of the entries to compare (all others are left out by some rule).
            rows: compare these rows of the recorded array only.
            columns: compare these columns of the recorded array's last dimension only.
            tolerance: instead of the usual one.
            scale: magnitude to relate differences to, if larger than the recorded array's own.
        """
        self._seen.add(key)
        recorded = np.asarray(self.case.arrays[key])
        recorded = recorded if rows is None else recorded[rows]
        recorded = recorded if columns is None else recorded[..., columns]
        if tolerance is None:
            tolerance = GRADIENT_TOLERANCE if key.startswith("grad") else TOLERANCE
        mask = None if where is None else np.asarray(_numpy(where), bool)
        self.differences.append(_difference(key, _numpy(values), recorded, mask, tolerance, scale or 0.0))

    def require(self, key: str, agrees: bool, reason: str, absolute: float = 0.0) -> None:
        """Note the outcome of a comparison of another kind."""
        self._seen.add(key)
        self.differences.append(Difference(key, absolute, absolute, agrees, "" if agrees else reason))

    def leave_out(self, key: str, rule: str) -> None:
        """Leave out a whole array by a declared rule."""
        self.rule(rule)
        self._seen.add(key)

    @property
    def uncompared(self) -> list[str]:
        """Recorded outputs that nobody looked at."""
        return [key for key in self.case.outputs if key not in self._seen]

    @property
    def problems(self) -> list[str]:
        """Everything that makes the case fail, one sentence each."""
        lines = [
            f"{d.key}: {d.reason or f'differs by {d.absolute:.3g}, {d.relative:.3g} of the scale'}"
            for d in self.differences
            if not d.agrees
        ]
        lines += [f"{key}: recorded but not compared" for key in self.uncompared]
        return lines or ([] if self._seen else ["nothing was compared"])

    @property
    def left_out(self) -> bool:
        """Whether a declared rule leaves out the whole case."""
        return bool(self._seen) and not self.differences

    def worst(self, gradients: bool) -> tuple[float, float] | None:
        """Largest absolute and relative difference of all gradients, or of everything else; None without any."""
        chosen = [d for d in self.differences if d.key.startswith("grad") == gradients]
        if not chosen:
            return None
        return max(d.absolute for d in chosen), max(d.relative for d in chosen)


def _numpy(values: Any) -> NDArray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _difference(
    key: str, values: NDArray, recorded: NDArray, where: NDArray | None, tolerance: float, scale: float
) -> Difference:
    if values.shape != recorded.shape:
        return Difference(key, np.inf, np.inf, False, f"has the shape {values.shape}, and {recorded.shape} is recorded")
    if where is not None:
        chosen = np.broadcast_to(where, recorded.shape)
        values, recorded = values[chosen], recorded[chosen]
    if recorded.dtype.kind in "biuUS":
        wrong = int((values != recorded).sum())
        return Difference(key, float(wrong), float(wrong), wrong == 0, f"{wrong} of {recorded.size} values differ")
    values, recorded = values.astype(np.float64), recorded.astype(np.float64)
    finite = np.isfinite(recorded)
    if not np.array_equal(values[~finite], recorded[~finite], equal_nan=True) or not np.isfinite(values[finite]).all():
        return Difference(key, np.inf, np.inf, False, "NaN and infinite values stand in other places")
    magnitude, off = np.abs(recorded[finite]), np.abs(values[finite] - recorded[finite])
    scale = max(float(magnitude.max(initial=0.0)), scale, _SMALLEST_SCALE)
    absolute = float(off.max(initial=0.0))
    each = bool((off <= tolerance * (magnitude + scale / 2)).all())
    return Difference(key, absolute, absolute / scale, each and absolute <= tolerance * scale)
