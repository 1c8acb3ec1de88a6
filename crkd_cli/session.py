"""One invocation of ``crkd``: what was typed, where to report, and how errors become messages and exit codes."""

import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from crkd_cli import console
from crkd_core.errors import CrkdError, UsageError
from crkd_core.processes import LaunchedRank, launched_rank
from crkd_core.progress import Progress

if TYPE_CHECKING:
    from crkd_core.artifacts.command import Command
    from crkd_core.artifacts.workspace import Workspace
    from crkd_core.config.schema import Config

INTERRUPTED = 130
TERMINATED = 143
RELAUNCHED_VARIABLE = "CRKD_RELAUNCHED"
"""Set in the processes of ``--gpus`` and ``--processes``: the id of the process that launched them."""

# What an option of these does is no part of what is made.
_OF_THIS_CALL = {
    "--workspace", "--force", "--resume", "--quiet", "--debug",
    "--json", "--breakdown", "--curves", "--official", "--plan", "--verify", "--all", "--check",
}  # fmt: skip

# Long enough for the launcher to end the others once the first process has reported an error all of them have.
_OTHERS_WAIT_S = 4.0


class Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM): to a stage the same as Ctrl-C."""


def exit_code_of(interrupt: KeyboardInterrupt) -> int:
    """The exit status of a command that was interrupted."""
    return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


@dataclass
class Session:
    """What the commands of one invocation share.

    Attributes:
        arguments: the command line without the program's name.
        debug: show tracebacks.
        quiet: no progress, warnings only.
    """

    arguments: Sequence[str] = field(default_factory=list)
    debug: bool = False
    quiet: bool = False
    _root_of_environment: Path | None = None

    @property
    def rank(self) -> int:
        """Number of this process among those of a launched run."""
        return self._launched.rank if self._launched is not None else 0

    @property
    def _launched(self) -> LaunchedRank | None:
        try:
            return launched_rank()
        except UsageError:
            return None  # the commands that would join the others say what is wrong

    @property
    def is_first(self) -> bool:
        """Whether this process reports."""
        return self.rank == 0

    @property
    def command_line(self) -> str:
        """What the user typed."""
        return shlex.join(["crkd", *self.arguments])

    def refuse_empty_arguments(self) -> None:
        """No argument of any command may be empty: what stands for nothing is left out.

        A script's unset variable would otherwise pass for the default, the current folder or the latest run.

        Raises:
            UsageError: naming the option.
        """
        before = ""
        for argument in self.arguments:
            option, separator, value = argument.partition("=")
            if not argument.strip():
                what = before if before.startswith("-") else "an argument"
            elif option.startswith("--") and separator and not value.strip():
                what = option
            else:
                before = argument
                continue
            raise UsageError(f"{what} is empty; give it a value, or leave it out.")

    def command(self, context: typer.Context) -> "Command":
        """What was given, as a command that makes the same.

        Paths are absolute; options that only concern this call (how it reports, whether it may replace or continue
        something) are left out.
        """
        from crkd_core.artifacts.command import Command
        from crkd_core.artifacts.location import absolute

        arguments, options = list[str](), list[tuple[str, str | None]]()
        for parameter in context.command.params:
            flag = next((name for name in parameter.opts if name.startswith("--")), "")
            source = context.get_parameter_source(parameter.name or "")
            if flag in _OF_THIS_CALL or source is None or source.name != "COMMANDLINE":
                continue
            value = context.params[parameter.name or ""]
            values = value if isinstance(value, (list, tuple)) else [value]
            # Typer turns texts into paths before or after the parser, as its version goes.
            is_path = getattr(getattr(parameter, "type", None), "name", "") == "path"
            words = [str(absolute(Path(v))) if is_path or isinstance(v, Path) else str(v) for v in values]
            if parameter.param_type_name == "argument":
                arguments += words
            elif getattr(parameter, "is_flag", False):
                options += [(flag, None)] if value else []
            else:
                options += [(flag, word) for word in words]
        return Command(str(context.command.name), tuple(arguments), tuple(options))

    def progress(self) -> Progress:
        """Where the stage reports to: bars, plain lines, or (other processes, ``--quiet``) nowhere."""
        return console.choose_progress(silent=not self.is_first, quiet=self.quiet)

    def workspace(self, root: Path) -> "Workspace":
        """The workspace of ``--workspace``, the environment, or by default."""
        from crkd_core.artifacts.location import WORKSPACE_VARIABLE, absolute
        from crkd_core.artifacts.workspace import Workspace

        named = any(word in ("--workspace", "-w") or word.startswith("--workspace=") for word in self.arguments)
        if os.environ.get(WORKSPACE_VARIABLE) and not named:
            self._root_of_environment = absolute(root)
        return Workspace(root)

    def config(
        self, workspace: "Workspace", preset: str | None, file: Path | None, overrides: Sequence[str] | None
    ) -> "Config":
        """The configuration of ``--preset``, ``--config`` and ``--set``."""
        from crkd_core.artifacts.configuration import resolve_config

        return resolve_config(workspace, preset, file, overrides or (), self.progress())

    @contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """Turn what goes wrong in the block into one message and :class:`typer.Exit` with the right status."""
        try:
            yield
        except CrkdError as error:
            self._report(lambda: console.show_error(str(error)))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            if self.is_first and RELAUNCHED_VARIABLE not in os.environ:
                self.report_interrupt()
            raise typer.Exit(exit_code_of(error)) from error
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if hasattr(error, "format_message"):  # the parser's own errors, which it shows itself
                raise
            self._report(lambda: console.show_bug(error, self.command_line, hint=not self.debug))
            raise typer.Exit(1) from error

    def report_interrupt(self) -> None:
        """Say calmly that nothing is lost."""
        if self.debug:
            traceback.print_exc()
        console.show_note(f"Stopped. What was finished is kept; the same command continues: {self._continuation}")

    @property
    def _continuation(self) -> str:
        """What was typed, but for --no-resume, with the workspace of the environment, where that decided."""
        words = [word for word in self.arguments if word != "--no-resume"]
        if self._root_of_environment is not None:
            words += ["--workspace", str(self._root_of_environment)]
        return shlex.join(["crkd", *words])

    def _report(self, show) -> None:
        if not self.is_first:
            time.sleep(_OTHERS_WAIT_S)
            sys.stderr.write(f"process {self.rank} of {os.environ['WORLD_SIZE']}:\n")
        if self.debug:
            traceback.print_exc()
        show()


def session_of(context: typer.Context) -> Session:
    """The session of a command."""
    root = context.find_root()
    if not isinstance(root.obj, Session):
        root.obj = Session()
    return root.obj
