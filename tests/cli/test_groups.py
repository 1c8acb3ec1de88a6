"""Groups of options: Typer sees a command that names them as one that names each option."""

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from crkd_cli.groups import grouped

SizeOption = Annotated[int, typer.Option("--size", min=1, help="A size.")]
ColourOption = Annotated[str | None, typer.Option("--colour", help="A colour.")]


@dataclass(frozen=True)
class Look:
    size: SizeOption = 3
    colour: ColourOption = None


@dataclass(frozen=True)
class Everything:
    look: Look = field(default_factory=Look)
    loud: Annotated[bool, typer.Option("--loud")] = False


def _with_groups(
    *, before: Annotated[int, typer.Option("--before")] = 0, everything: Everything, after: str = "x"
) -> None:
    """A command."""
    typer.echo(f"{before} {everything.look.size} {everything.look.colour} {everything.loud} {after}")


def _one_by_one(
    before: Annotated[int, typer.Option("--before")] = 0,
    size: SizeOption = 3,
    colour: ColourOption = None,
    loud: Annotated[bool, typer.Option("--loud")] = False,
    after: str = "x",
) -> None:
    """A command."""
    typer.echo(f"{before} {size} {colour} {loud} {after}")


def _run(command, *arguments: str):
    app = typer.Typer(add_completion=False)
    app.command("command")(command)
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    "arguments",
    [(), ("--help",), ("--size", "5", "--loud"), ("--colour", "red", "--after", "y", "--before", "2"), ("--size", "0")],
    ids=" ".join,
)
def test_a_command_with_groups_is_the_one_with_every_option(arguments):
    with_groups, one_by_one = _run(grouped(_with_groups), *arguments), _run(_one_by_one, *arguments)
    assert (with_groups.exit_code, with_groups.output) == (one_by_one.exit_code, one_by_one.output)
