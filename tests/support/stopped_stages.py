"""Stages that can be stopped and run again, in copies of a workspace that has everything before them."""

import shutil
from pathlib import Path

from crkd_core.artifacts.manifest import read_manifest
from tests.support.chain import Chain
from tests.support.refusals import snapshot

COMMANDS = {
    "prepare": ("prepare", "--name"),
    "train-teacher": ("train-teacher", "--name"),
    "extract-teacher": ("extract-teacher", "--name"),
    "distill": ("distill", "--name"),
    "evaluate": ("evaluate", "--workers", "0", "--model"),
    "visualize": ("visualize", "--samples", "1", "--model"),
}
# What the chain holds of every stage, and the last word of the command that makes it.
MADE = {
    "prepare": ("prepare/v1.0-sim-mini", "v1.0-sim-mini"),
    "train-teacher": ("train-teacher/teacher", "teacher"),
    "extract-teacher": ("extract-teacher/targets", "targets"),
    "distill": ("distill/crkd", "crkd"),
    "evaluate": ("evaluate/crkd-val", "crkd"),
    "visualize": ("visualize/val", "crkd"),
}


class Stage:
    """A stage in a workspace that has everything before it.

    Its command makes anew what the chain has: under another name, or in its place (`forced`). Evaluations and pictures
    have no names of their own: those of the chain are removed first.
    """

    def __init__(self, evaluated: Chain, folder: Path, name: str, forced: bool = False) -> None:
        made, word = MADE[name]
        self.expected = checksums(evaluated.workspace.root / made)
        self.root = evaluated.copy(folder).workspace.root
        self.result = self.root / made
        nuscenes = ("--nuscenes", evaluated.nuscenes) if name == "prepare" else ()
        self.command = [*COMMANDS[name], word, *nuscenes, "-w", self.root]
        if forced:
            self.command.append("--force")
        elif name in ("evaluate", "visualize"):
            shutil.rmtree(self.result)
        else:
            self.command[len(COMMANDS[name])] = "again"
            self.result = self.result.with_name("again")
        self.before = snapshot(self.root)

    def finished_files(self) -> dict[str, int]:
        """Time stamps of what need not be made again: shards, detections, pictures."""
        folder = self.result if self.result.exists() else self.result.with_name(self.result.name + ".partial")
        files = [path for kind in ("shard-*", "detections.parquet", "*.png") for path in folder.rglob(kind)]
        return {path.name: path.stat().st_mtime_ns for path in files}

    def check_nothing_lost(self) -> None:
        """The workspace is as it was, and no file is half written."""
        assert snapshot(self.root) == self.before
        assert not list(self.root.rglob("*.writing"))

    def check_result(self) -> None:
        """What the command made is what the chain has, and nothing is left beside it."""
        assert checksums(self.result) == self.expected
        left = [path.name for path in self.root.rglob("*") if path.name.endswith((".partial", ".replaced", ".writing"))]
        assert left == []
        assert not (self.result / "checkpoint.safetensors").exists()


def checksums(folder: Path) -> dict[str, str]:
    """Checksums of a finished run's files; without logs, which hold times."""
    manifest = read_manifest(folder)
    assert manifest is not None
    return {path: file.sha256 for path, file in manifest.files.items() if not path.startswith("logs/")}
