"""Where recorded cases of the published implementation lie, and reading them.

Committed ones are in ``tests/parity/data``. ``CRKD_GOLDENS=DIR`` names a folder with more of them (``cases/*.npz`` with
their ``.json``, ``keys/*.json``); without it, ``../shared/goldens`` beside the checkout is taken where it is there.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.parity.golden import GoldenCase
from tests.parity.packing import read_packed
from tests.support.checkout import ROOT

__all__ = ["DATA", "KEY_LISTS", "GoldenCase", "case_paths", "find_cases", "load_case", "more_cases", "read_case"]

DATA = Path(__file__).parent / "data"
KEY_LISTS = "keys.json.xz"


def more_cases() -> Path | None:
    """The folder with more cases than the committed ones, where there is one."""
    if named := os.environ.get("CRKD_GOLDENS"):
        folder = Path(named)
        return folder / "cases" if (folder / "cases").is_dir() else folder
    beside = ROOT.parent / "shared" / "goldens" / "cases"
    return beside if beside.is_dir() else None


def case_paths() -> dict[str, Path]:
    """Every case by its name: the committed ones, and what another folder has beside them."""
    folders = [folder for folder in (more_cases(), DATA) if folder is not None]
    paths = {case_name(path): path for folder in folders for path in find_cases(folder)}
    return dict(sorted(paths.items()))


def case_name(path: Path) -> str:
    """The name of a case file."""
    return path.name.removesuffix(".xz").removesuffix(".npz")


def find_cases(folder: Path) -> Iterator[Path]:
    """The case files of a folder by name; those of which only a ``.json`` is there, too."""
    yield from sorted(path for path in folder.glob("*.xz") if path.name != KEY_LISTS)
    stems = {path.stem for path in (*folder.glob("*.npz"), *folder.glob("*.json"))}
    yield from (folder / f"{stem}.npz" for stem in sorted(stems))


def read_case(path: Path) -> GoldenCase:
    """The case of a file, packed or an ``.npz`` with its ``.json``."""
    if path.suffix == ".xz":
        return read_packed(path)
    with np.load(path) as arrays:
        recorded = json.loads(path.with_suffix(".json").read_text())
        return GoldenCase(
            path.stem, recorded["config"], dict(arrays), recorded.get("description", ""), recorded.get("name", "")
        )


def load_case(name: str) -> GoldenCase:
    """A whole recorded case; skips the test where only the committed ones are there, and this is none of them."""
    path = case_paths().get(name)
    if path is None:
        pytest.skip(f"the recorded case {name} is not committed; CRKD_GOLDENS=DIR names a folder that has it")
    return read_case(path)
