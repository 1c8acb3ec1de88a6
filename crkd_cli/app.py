"""The Typer app and the entry point of the ``crkd`` command."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from crkd_cli import console
from crkd_cli.command_help import Command
from crkd_cli.commands.ablate import ablate
from crkd_cli.commands.compare import compare
from crkd_cli.commands.demo import demo
from crkd_cli.commands.distill import distill
from crkd_cli.commands.evaluate import evaluate
from crkd_cli.commands.export_weights import export_weights
from crkd_cli.commands.extract_teacher import extract_teacher
from crkd_cli.commands.import_weights import import_weights
from crkd_cli.commands.prepare import prepare
from crkd_cli.commands.presets import presets
from crkd_cli.commands.simulate import simulate
from crkd_cli.commands.status import status
from crkd_cli.commands.train_teacher import train_teacher
from crkd_cli.commands.visualize import visualize
from crkd_cli.session import RELAUNCHED_VARIABLE, Session, Terminated, exit_code_of, session_of
from crkd_cli.streams import guarded_streams
from crkd_core.errors import CrkdError
from crkd_core.processes import end_with_parent


class _Commands(TyperGroup):
    """Commands whose errors become one message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        session = session_of(ctx)
        with session.reporting_errors():
            session.refuse_empty_arguments()
            return super().invoke(ctx)


app = typer.Typer(
    name="crkd",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)

_STAGES: dict[str, Callable[..., None]] = {
    "prepare": prepare,
    "train-teacher": train_teacher,
    "extract-teacher": extract_teacher,
    "distill": distill,
    "evaluate": evaluate,
    "visualize": visualize,
}
_OTHERS: dict[str, Callable[..., None]] = {
    "status": status,
    "compare": compare,
    "ablate": ablate,
    "import-weights": import_weights,
    "export-weights": export_weights,
    "demo": demo,
    "simulate": simulate,
    "presets": presets,
}
for _title, _functions in (("The six stages, in order", _STAGES), ("Around them", _OTHERS)):
    for _name, _function in _functions.items():
        app.command(_name, cls=Command, rich_help_panel=_title)(_function)


def _show_version(value: bool) -> None:
    if value:
        from crkd_core import __version__

        typer.echo(f"crkd {__version__}")
        raise typer.Exit


@app.callback()
def crkd(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; warnings and results only.")] = False,
) -> None:
    """Train 3D object detectors that see with cameras and radar and were taught by LiDAR.

    Every stage reads and writes artifacts in one workspace folder, so that the next one needs no paths:
    crkd status shows what is there and which command comes next.
    """
    session = session_of(context)
    session.debug |= debug
    session.quiet |= quiet
    if not session.debug:
        # What users should know comes through the stages' own warnings; the libraries' speak to programmers.
        warnings.simplefilter("ignore")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``crkd`` and exit with its status.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    # OpenMP threads that spin while they wait make a step ten times slower as soon as another process (a loader, say)
    # wants their core. It has to be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    session = Session(typed)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = os.environ.get(RELAUNCHED_VARIABLE, "")
        end_with_parent(int(launcher) if launcher.isdigit() else None)
    with guarded_streams(), _told_to_end():
        try:
            app(args=typed, prog_name="crkd", obj=session)
        except CrkdError as error:
            console.show_error(str(error))
            sys.exit(error.exit_code)
        except KeyboardInterrupt as error:
            session.report_interrupt()
            sys.exit(exit_code_of(error))
        except BrokenPipeError:
            sys.exit(1)  # whoever read our output has left: nothing more to say


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Have SIGTERM (a scheduler, ``docker stop``) end a command as Ctrl-C does, for the length of the block.

    Not in the processes of a launcher: they may wait for each other, where only the signal's own action reaches them.
    """
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    of_others = threading.current_thread() is not threading.main_thread()
    if launched or of_others or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
