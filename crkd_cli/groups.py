"""Options that belong together as one parameter of a command.

Typer reads the options of a command from the parameters of its function. Where several commands have the same dozen, a
dataclass whose fields are options stands for them, and :func:`grouped` spreads it out for Typer.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command as Typer expects it: parameters that are groups of options are spread out in their place."""
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    options: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        options += _spread(parameter.name, hints[parameter.name], parameter.default)

    @wraps(command)
    def run(**values: Any) -> None:
        command(**{name: _gather(name, hints[name], values) for name in signature.parameters})

    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def _spread(name: str, annotation: Any, default: Any) -> Iterator[inspect.Parameter]:
    if not is_dataclass(annotation):
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        return
    hints = get_type_hints(annotation, include_extras=True)
    for field in fields(annotation):
        yield from _spread(field.name, hints[field.name], field.default)


def _gather(name: str, annotation: Any, values: dict[str, Any]) -> Any:
    """The value of a parameter: a group of the values of its options, or the value itself."""
    if not is_dataclass(annotation):
        return values[name]
    hints = get_type_hints(annotation, include_extras=True)
    parts = {field.name: _gather(field.name, hints[field.name], values) for field in fields(annotation)}
    return annotation(**parts)  # type: ignore[operator]
