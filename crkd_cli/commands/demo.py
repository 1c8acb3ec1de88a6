"""``crkd demo``."""

import typer


def demo(context: typer.Context) -> None:
    """The whole chain on a small simulated world."""
