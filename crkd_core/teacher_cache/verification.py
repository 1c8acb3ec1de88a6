"""Stored teacher targets against the live teacher, on random samples."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from crkd_core.artifacts.shards import ItemKey, TensorShards
from crkd_core.artifacts.workspace import Artifact
from crkd_core.data.augmentation import without_view
from crkd_core.distillation.losses import decode_targets
from crkd_core.errors import DamagedArtifactError
from crkd_core.progress import Progress
from crkd_core.teacher_cache.extraction import Extraction
from crkd_core.teacher_cache.item_plan import Item, ItemPlan

TOLERANCE = 0.01
"""Relative deviation of a part beyond which targets are not what the teacher says.

On the device that extracted them there is none; other devices round differently, and a few values then fall on the
other side of a quantisation step.
"""


@dataclass(frozen=True)
class Verification:
    """Stored items that were computed again.

    Attributes:
        items: how many.
        largest_deviation: of any of their parts, relative (norm of the difference to norm).
    """

    items: int
    largest_deviation: float


def verify_targets(
    targets: Artifact, plan: ItemPlan, extraction: Extraction, count: int, progress: Progress
) -> Verification:
    """Check every file's checksum, then compute random items again in the batches in which they were extracted.

    Raises:
        DamagedArtifactError: a file changed, a stored augmentation is not the one that its seed gives, or targets
            differ from what the teacher says by more than :data:`TOLERANCE`.
    """
    targets.verify(thorough=True)
    stored = TensorShards(targets)
    chosen = sorted(random.SystemRandom().sample(range(len(plan)), min(count, len(plan))))
    batches: dict[tuple[Item, ...], list[ItemKey]] = {}
    for number in chosen:
        batch, key = plan.locate(number)
        batches.setdefault(tuple(batch), []).append(key)
    largest = 0.0
    with progress.task("verifying", total=sum(map(len, batches)), unit="samples") as task:
        for keys, computed in zip(batches.values(), extraction.compute([list(batch) for batch in batches], task)):
            for key in keys:
                largest = max(largest, _compare(targets, key, stored.read(key), computed[key]))
    return Verification(len(chosen), largest)


def _compare(targets: Artifact, key: ItemKey, stored: dict[str, Tensor], computed: dict[str, Tensor]) -> float:
    where = f"{targets.label}: view {key.view} of sample {key.token}"
    again = f"make them again with: {targets.remake_command()}"
    of_view = [name for name in computed if name not in without_view(computed)]
    if not all(name in stored and torch.equal(stored[name], computed[name]) for name in of_view):
        raise DamagedArtifactError(f"{where} was stored with another augmentation than its seed gives; {again}")
    deviations = decode_targets(stored).deviations(decode_targets(computed))
    part = max(deviations, key=lambda name: deviations[name])
    if deviations[part] > TOLERANCE:
        raise DamagedArtifactError(
            f"{where} differs from what the teacher says: expected a relative deviation of at most {TOLERANCE:.0%}, "
            f"found {deviations[part]:.1%} in the {part}; {again}"
        )
    return deviations[part]
