"""Finding the version folder of a data set's directory, and a digest of its tables."""

import hashlib
import re
from pathlib import Path

from crkd_core.config.description import Format
from crkd_core.datasets.nuscenes.regular_files import refuse_special_file
from crkd_core.datasets.truckscenes import tables as truckscenes
from crkd_core.errors import DatasetError, UsageError

TABLES = ("log", *truckscenes.TABLES)
"""The tables that are read of nuScenes: those that both formats have, and logs."""
_USUAL = re.compile(r"v\d+\.\d+-")
_LARGEST_TABLE = "sample_data.json"


def versions_of(dataroot: Path) -> list[str]:
    """Names of the version folders: ``v1.0-*``, or where there is none, whatever folders of tables are called."""
    try:
        folders = sorted(path for path in dataroot.iterdir() if path.is_dir())
    except OSError:
        return []
    usual = [path.name for path in folders if _USUAL.match(path.name)]
    return usual or [path.name for path in folders if (path / _LARGEST_TABLE).exists()]


def find_version(dataroot: Path, version: str | None = None) -> str:
    """The version to use: the given one, or the only one that is there.

    Raises:
        DatasetError: there is no such folder, it is not a nuScenes folder, or it lacks that version.
        UsageError: several versions are there and none was asked for.
    """
    if not dataroot.is_dir():
        raise DatasetError(
            f"{dataroot} is not a folder; expected a nuScenes folder with v1.0-*/, samples/ and sweeps/. "
            "Without nuScenes at hand, make one with: crkd simulate --out DIR"
        )
    if version is not None and (dataroot / version / _LARGEST_TABLE).is_file() and Path(version).name == version:
        return version
    versions = versions_of(dataroot)
    if not versions:
        if (dataroot / _LARGEST_TABLE).exists():
            raise DatasetError(
                f"{dataroot} is the folder of the tables; give the one that contains it: {dataroot.resolve().parent}"
            )
        raise DatasetError(
            f"{dataroot} is not a nuScenes folder: expected a folder v1.0-* of JSON tables beside samples/ "
            "and sweeps/, found none."
        )
    if version is not None:
        if version not in versions:
            raise DatasetError(f"{dataroot} has no version {version!r}; found {', '.join(versions)}.")
        return version
    if len(versions) > 1:
        raise UsageError(f"{dataroot} has several versions ({', '.join(versions)}); choose one with --version.")
    return versions[0]


def tables_of(table_format: Format) -> tuple[str, ...]:
    """The tables of a version folder that are read."""
    return truckscenes.TABLES if table_format == "truckscenes" else TABLES


def version_slug(version: str) -> str:
    """A version as the name of a run: a folder of tables may be called anything."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", version).strip("-._") or "data"


def _missing(table: Path) -> DatasetError:
    folder = table.parent
    if table.stem not in truckscenes.TABLES and (folder / f"{truckscenes.OWN_TABLE}.json").exists():
        return DatasetError(
            f"the table {table} is missing, and the others are TruckScenes', which does without: say --dataset "
            "truckscenes, or format: truckscenes in the description."
        )
    return DatasetError(
        f"the table {table} is missing; expected every nuScenes JSON table in {folder}: unpack the metadata archive "
        "again."
    )


def digest_tables(folder: Path, table_format: Format = "nuscenes") -> str:
    """SHA-256 over the names and bytes of the tables that are read."""
    total = hashlib.sha256()
    for name in tables_of(table_format):
        path = folder / f"{name}.json"
        checksum = hashlib.sha256()
        refuse_special_file(path, "the table")
        try:
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    checksum.update(block)
        except FileNotFoundError:
            raise _missing(path) from None
        except OSError as error:
            raise DatasetError(f"the table {path} cannot be read: {error.strerror or error}.") from None
        total.update(f"{name}:{checksum.hexdigest()};".encode())
    return total.hexdigest()
