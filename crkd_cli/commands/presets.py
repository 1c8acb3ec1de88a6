"""``crkd presets``: the configurations that come with crkd."""

from typing import Annotated

import typer

from crkd_cli import console
from crkd_cli.options import DebugOption, complete_preset


def presets(
    name: Annotated[
        str | None, typer.Argument(help="Print this one's YAML.", autocompletion=complete_preset, show_default=False)
    ] = None,
    debug: DebugOption = False,
) -> None:
    """List the configurations that come with crkd, or print one.

    A file for --config starts well as: crkd presets paper-r50 > mine.yaml
    """
    from crkd_core.config.loading import DEFAULT_PRESET, describe_preset, preset_names, read_preset

    if name is not None:
        console.print_lines(read_preset(name).rstrip("\n"))
        return
    table = console.make_table(["preset", "what it is for"])
    for preset in preset_names():
        table.add_row(preset + (" (default)" if preset == DEFAULT_PRESET else ""), describe_preset(preset))
    console.print_table(table)
