"""Advice for a workspace's prepared data: which stages can work on them, and on which split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crkd_core.artifacts.command import Command
from crkd_core.config.split_names import TEST, TRAIN, TRAINVAL, VAL

_TEACHING = ("train-teacher", "extract-teacher")
_OF_TRAINING = (*_TEACHING, "distill")


@dataclass(frozen=True)
class DataAdvice:
    """What to recommend to somebody with these prepared data sets.

    Attributes:
        prepared: facts of each, oldest first.
    """

    prepared: Sequence[Mapping[str, Any]]

    @property
    def teachable(self) -> bool:
        """Whether there are LiDAR data that a teacher could see."""
        return not self.prepared or any(facts.get("lidar", True) for facts in self.prepared)

    @property
    def train_split(self) -> str | None:
        """The split to train on; None where there is none."""
        if self._has(TRAIN):
            return TRAIN
        own = self._own()
        return next((split for split in own if TRAIN in split), max(own, key=own.__getitem__) if own else None)

    def evaluation_split(self, trained_on: str | None) -> str | None:
        """The split to evaluate on a model that was trained on another one; None where there is no other."""
        if trained_on is not None and trained_on.removeprefix("mini_") == TRAINVAL and self._has(TEST):
            return TEST
        if self._has(VAL):
            return VAL
        others = [split for split in self._own() if split not in (trained_on, self.train_split)]
        known = next((split for split in others if VAL in split), others[0] if others else None)
        return known or (TEST if self._has(TEST) else None)

    def command(self, stage: str, command: Command, trained_on: str | None) -> tuple[Command, str | None]:
        """The command of a stage that works on these data, and why it is another one than usual.

        Args:
            trained_on: split of the model to evaluate, where it is not ``train``.
        """
        if not self.prepared:
            return command, None
        if stage in _OF_TRAINING:
            split, usual = self.train_split, TRAIN
        elif stage == "evaluate":
            split, usual = self.evaluation_split(trained_on), VAL
        else:
            return command, None
        if split is None:
            known = ", ".join(dict.fromkeys(name for facts in self.prepared for name in facts["samples_per_split"]))
            purpose = "train on" if usual == TRAIN else "evaluate on"
            prepare = Command("prepare").setting("--nuscenes", "DIR")
            return prepare, f"there are no samples to {purpose} yet, only {known or 'none'}"
        reason = None
        if stage == "distill" and not self.teachable:
            command, reason = command.setting("--losses", "none"), "there is no LiDAR for a teacher to see"
        return command if split == usual else command.setting("--split", split), reason

    def _has(self, split: str) -> bool:
        return any({split, f"mini_{split}"} & facts["samples_per_split"].keys() for facts in self.prepared)

    def _own(self) -> dict[str, int]:
        """Splits of ``splits.json`` of the latest data that have any, with their samples."""
        for facts in reversed(self.prepared):
            counts = facts["samples_per_split"]
            own = {split: counts[split] for split in facts.get("own_splits", ()) if split in counts}
            if own:
                return own
        return {}
