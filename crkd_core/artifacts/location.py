"""Where a workspace is by default, and paths that mean the same in every folder."""

import os
import shlex
from pathlib import Path

DEFAULT_WORKSPACE = Path("crkd-workspace")
WORKSPACE_VARIABLE = "CRKD_WORKSPACE"


def absolute(path: Path) -> Path:
    """A path that means the same in every folder."""
    return path.resolve() if ".." in path.parts else path.absolute()


def quoted(path: Path) -> str:
    """A path to be pasted into a shell, in any folder."""
    return shlex.quote(str(absolute(path)))


def is_default(root: Path) -> bool:
    """Whether a command that is pasted here and now works in this workspace without being told to."""
    return not os.environ.get(WORKSPACE_VARIABLE) and absolute(root) == DEFAULT_WORKSPACE.absolute()
