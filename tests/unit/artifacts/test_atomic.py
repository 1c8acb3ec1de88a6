"""Files that several commands write at the same time."""

import subprocess
import sys

from crkd_core.artifacts.atomic import TEMPORARY_SUFFIX, atomic_path, keep_text
from tests.support.checkout import ROOT

_KEEP = """
import pathlib, sys
from crkd_core.artifacts.atomic import keep_text
keep_text(pathlib.Path(sys.argv[1]), "same")
"""


def test_two_commands_keep_the_same_file(tmp_path):
    """A second command writes the file, whole, while the first one is at it."""
    path = tmp_path / "configs" / "ladder.yaml"
    with atomic_path(path, is_shared=True) as temporary:
        temporary.write_text("sa")
        subprocess.run([sys.executable, "-c", _KEEP, str(path)], check=True, cwd=ROOT)
        assert path.read_text() == "same"
        temporary.write_text("same")
    assert path.read_text() == "same"
    assert [file.name for file in path.parent.iterdir()] == ["ladder.yaml"]


def test_what_is_kept_already_is_not_written(tmp_path):
    path = tmp_path / "ladder.yaml"
    keep_text(path, "same\n")
    before = path.stat()
    keep_text(path, "same\n")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    keep_text(path, "other\n")
    assert path.read_bytes() == b"other\n"
    assert not list(tmp_path.glob(f"*{TEMPORARY_SUFFIX}"))
