"""Help texts that name things of the library, which is loaded only when such a text is shown."""

from collections.abc import Callable
from typing import Any

from typer.core import TyperCommand

LOSSES = "{losses}"
"""Stands for the names of all losses in the help of an option."""


def _losses() -> str:
    from crkd_core.config.distill import LOSS_NAMES

    return ", ".join(LOSS_NAMES)


_NAMES: dict[str, Callable[[], str]] = {LOSSES: _losses}


class Command(TyperCommand):
    """A command that fills in such names before its help is shown."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for parameter in self.params:
            text: str = getattr(parameter, "help", None) or ""
            for name, known in _NAMES.items():
                if name in text:
                    vars(parameter)["help"] = text.replace(name, known())
        super().format_help(ctx, formatter)
