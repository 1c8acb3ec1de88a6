"""The folders of a simulated data set on disk, and the steps between an unfinished and a finished one.

``<out>.partial`` is under construction. Once its marker has the numbers of what was made, the data set is finished:
it is moved to ``<out>``, an older one to ``<out>.replaced`` and removed, and the marks of finished scenes go last. A
kill in between leaves what :meth:`WorldFolder.settle` completes. Nothing is removed but files named as the simulator
names its own.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.artifacts.atomic import TEMPORARY_SUFFIX, write_text
from crkd_core.artifacts.locks import lock_path
from crkd_core.artifacts.manifest import FileRecord, read_regular, record_file
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.writer.formats import FORMATS
from crkd_core.errors import UsageError

MARKER = "simulation.json"
FINISHED = "finished-scenes"
COUNTS = ("scenes", "samples", "annotations")
_TABLES = "|".join(sorted({table for form in FORMATS.values() for table in form.tables}))
_OWN = re.compile(
    rf"""{re.escape(MARKER)} | \.lock
    | {FINISHED}/scene-[0-9a-f-]+\.json
    | v1\.[0-9]-[A-Za-z0-9-]+/({_TABLES})\.json
    | maps/[0-9a-f]{{32}}\.png
    | (samples|sweeps)/(?P<channel>[A-Za-z0-9_]+)/(sim[^/]*__(?P=channel)__|(?P=channel)_)[0-9]+\.(jpg|pcd|pcd\.bin)""",
    re.VERBOSE,
)


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What a simulated data set, finished or not, says of itself; None where the folder is none."""
    try:
        values = json.loads(read_regular(folder / MARKER))
    except (OSError, ValueError, RecursionError):
        return None
    is_marker = isinstance(values, dict) and isinstance(values.get("digest"), str)
    return values if is_marker and isinstance(values.get("config"), dict) else None


def write_marker(folder: Path, config: SimulationConfig, counts: tuple[int, int, int] | None = None) -> None:
    """Say what is, or with `counts` was, made in a folder."""
    content: dict[str, Any] = {
        "made_by": "crkd simulate: simulated data, not recorded by any vehicle",
        "digest": config.digest(),
        "config": config.model_dump(),
    }
    if counts is not None:
        content |= dict(zip(COUNTS, counts, strict=True))
    write_text(folder / MARKER, json.dumps(content, indent=1) + "\n")


def counts_of(marker: dict[str, Any]) -> tuple[int, int, int] | None:
    """Numbers of scenes, samples and annotations of a finished data set; None where it is not finished."""
    numbers = [marker.get(name) for name in COUNTS]
    if not all(isinstance(number, int) for number in numbers):
        return None
    scenes, samples, annotations = numbers
    return scenes, samples, annotations  # type: ignore[return-value]


def write_scene(folder: Path, name: str, records: dict[str, list[dict[str, Any]]]) -> None:
    """Leave the records of a scene, with the checksums of its files, as the mark that it is finished."""
    made = [record["filename"] for table in ("sample_data", "map") for record in records.get(table, ())]
    files = {relative: record_file(folder / relative).model_dump() for relative in made}
    write_text(folder / FINISHED / f"{name}.json", json.dumps({"records": records, "files": files}))


def read_scene(folder: Path, name: str, verify: bool = True) -> dict[str, list[dict[str, Any]]] | None:
    """The records of a finished scene; None where it is not finished, or its files are not what was written."""
    try:
        mark = json.loads(read_regular(folder / FINISHED / f"{name}.json"))
        files = {relative: FileRecord.model_validate(record) for relative, record in mark["files"].items()}
        if verify and any(record_file(folder / relative) != record for relative, record in files.items()):
            return None
        records = {table: list(of_table) for table, of_table in mark["records"].items()}
        return records if any(set(records) == set(form.tables) for form in FORMATS.values()) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@dataclass(frozen=True)
class WorldFolder:
    """Where a simulated data set is, or will be: `out`."""

    out: Path

    @property
    def partial(self) -> Path:
        """Where it is made."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def replaced(self) -> Path:
        """Where an older one is while the new one takes its place."""
        return self.out.with_name(self.out.name + ".replaced")

    @property
    def is_settled(self) -> bool:
        """Whether a stopped run left nothing to complete or to clear away."""
        left = (self.replaced, self.out / FINISHED, lock_path(self.partial))
        return not any(map(os.path.lexists, left)) and not self._is_complete(self.partial)

    def settle(self) -> str | None:
        """Complete what a stopped run began when it finished; the digest of its configuration where it did.

        Call it under the lock.

        Raises:
            UsageError: something in the way was not made by the simulator.
        """
        if self._is_complete(self.partial):
            marker = read_marker(self.partial)
            scenes = [path.stem for path in (self.partial / FINISHED).glob("*.json")]
            if marker is None or any(read_scene(self.partial, scene) is None for scene in scenes):
                return None
            self._check(self.partial)
            self.put_in_place(may_set_aside=False)
            return marker["digest"]
        if os.path.lexists(self.out / FINISHED) and (marker := read_marker(self.out)) is not None:
            self._tidy()
            return marker["digest"]
        if os.path.lexists(self.replaced) and not os.path.lexists(self.out):
            self._check(self.replaced)
            os.rename(self.replaced, self.out)
        self._remove_replaced()
        return None

    def check_in_way(self, may_set_aside: bool) -> None:
        """Refuse whatever the simulator did not make where its folders are or will be.

        Args:
            may_set_aside: something else at `out` is not removed but moved, and may stay until then.

        Raises:
            UsageError: naming it.
        """
        if not (may_set_aside and self._is_foreign(self.out)):
            self._check(self.out)
        self._check(self.replaced)
        self._check(self.partial)

    def begin(self, config: SimulationConfig) -> None:
        """A folder to continue in; what an unfinished run of another configuration left is removed."""
        marker = read_marker(self.partial)
        if marker is not None and marker["digest"] != config.digest():
            _remove_files(self.partial)
        self.partial.mkdir(parents=True, exist_ok=True)
        write_marker(self.partial, config)

    def put_in_place(self, may_set_aside: bool) -> Path | None:
        """Move the finished data set to its place; returns where something else that was there is now.

        Raises:
            UsageError: what is there was not made by the simulator, and may not be moved.
        """
        aside = None
        if may_set_aside and self._is_foreign(self.out):
            aside = self._free_name()
            os.rename(self.out, aside)
        self._check(self.out)
        if self.out.is_dir() and any(self.out.iterdir()):
            self._remove_replaced()
            os.rename(self.out, self.replaced)
        elif self.out.is_dir():
            self.out.rmdir()
        os.rename(self.partial, self.out)
        self._tidy()
        return aside

    def _is_complete(self, folder: Path) -> bool:
        marker = read_marker(folder) if not folder.is_symlink() else None
        return marker is not None and counts_of(marker) is not None

    def _is_foreign(self, folder: Path) -> bool:
        """Whether there is something that is no simulated data set."""
        if not os.path.lexists(folder):
            return False
        return not folder.is_dir() or (any(folder.iterdir()) and read_marker(folder) is None)

    def _check(self, folder: Path) -> None:
        """Refuse a folder that is neither absent, empty nor a simulated data set with nothing else in it."""
        if not os.path.lexists(folder):
            return
        if folder.is_symlink():
            raise UsageError(f"{folder} is a link and would be replaced: remove the link or choose another folder.")
        strangers = [path for path in _files_below(folder) if not _is_own(path.relative_to(folder))]
        # A run that was killed before it could say which it is leaves temporary files at most.
        if self._is_foreign(folder) and (strangers or not folder.is_dir()):
            raise UsageError(
                f"{folder} is in the way and was not made by crkd simulate: move it or choose another folder."
            )
        if strangers:
            raise UsageError(
                f"{strangers[0]} is not a file of the simulated data set and would be lost: move it away, then run the "
                "same command again."
            )

    def _tidy(self) -> None:
        """Remove the data set that was replaced, and last the marks of finished scenes."""
        self._remove_replaced()
        (self.out / ".lock").unlink(missing_ok=True)
        for path in (self.out / FINISHED).glob("*"):
            if _is_own(path.relative_to(self.out)):
                path.unlink()
        with suppress(OSError):
            (self.out / FINISHED).rmdir()

    def _remove_replaced(self) -> None:
        if os.path.lexists(self.replaced):
            self._check(self.replaced)
            _remove_files(self.replaced)
            self.replaced.rmdir()

    def _free_name(self) -> Path:
        k = 1
        while os.path.lexists(name := self.out.with_name(f"{self.out.name}.old-{k}")):
            k += 1
        return name


def _is_own(relative: Path) -> bool:
    return _OWN.fullmatch(relative.as_posix().removesuffix(TEMPORARY_SUFFIX)) is not None


def _remove_files(folder: Path) -> None:
    """Remove the simulator's files, the marker last, and the folders that are empty then."""
    for path in sorted(_files_below(folder), key=lambda path: path.name == MARKER):
        if _is_own(path.relative_to(folder)):
            path.unlink()
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        path.rmdir()


def _files_below(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is not a folder, links to folders included."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = sorted(set(folders) - set(links))
        yield from (Path(parent) / name for name in sorted(files + links))
