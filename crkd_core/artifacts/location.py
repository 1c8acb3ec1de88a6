"""Where a workspace is by default, the folders of its runs, and paths that mean the same in every folder."""

import os
import re
import shlex
from pathlib import Path

DEFAULT_WORKSPACE = Path("crkd-workspace")
WORKSPACE_VARIABLE = "CRKD_WORKSPACE"
PARTIAL = ".partial"
REPLACED = ".replaced"
_UNDER_WAY = re.compile(r"(\.partial|\.replaced)$")


def run_name(folder_name: str) -> str:
    """The name of the run that a folder of a stage belongs to."""
    return _UNDER_WAY.sub("", folder_name)


def absolute(path: Path) -> Path:
    """A path that means the same in every folder."""
    return path.resolve() if ".." in path.parts else path.absolute()


def quoted(path: Path) -> str:
    """A path to be pasted into a shell, in any folder."""
    return shlex.quote(str(absolute(path)))


def is_default(root: Path) -> bool:
    """Whether a command that is pasted here and now works in this workspace without being told to."""
    return not os.environ.get(WORKSPACE_VARIABLE) and absolute(root) == DEFAULT_WORKSPACE.absolute()
