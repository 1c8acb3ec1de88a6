"""Commands of ``crkd`` as values: what an artifact records of how it was made, and what messages print to be pasted."""

import hashlib
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crkd_core.artifacts.location import absolute, is_default

if TYPE_CHECKING:  # manifests name commands where they are damaged
    from crkd_core.artifacts.manifest import InputRef

CONFIG_FOLDER = "configs"
"""Folder of a workspace that keeps the configurations which recorded commands name."""

CONFIG_OPTIONS = ("--preset", "--config", "--set")

_PROGRAM = "crkd"
_WORKSPACE, _FORCE = "--workspace", "--force"
_DIGEST_LENGTH = 8
_FIRST_COMMANDS = {
    "prepare": "crkd prepare --nuscenes DIR --name {name}",
    "train-teacher": "crkd train-teacher --name {name}",
    "extract-teacher": "crkd extract-teacher --name {name}",
    "distill": "crkd distill --name {name}",
    "evaluate": "crkd evaluate",
    "import-weights": "crkd import-weights FILE --as backbone --name {name}",
}
# What else those commands need where it is not the latest that is meant.
_INPUT_OPTIONS = {
    "train-teacher": "--prepared NAME",
    "extract-teacher": "--teacher NAME",
    "distill": "--targets NAME, --losses, --init",
    "evaluate": "--model NAME, --split",
}


@dataclass(frozen=True)
class Command:
    """``crkd NAME ARGUMENT... --option value...``, without its workspace.

    Attributes:
        name: such as ``train-teacher``.
        options: in order; the value of a flag is None; an option that is repeated stands there several times.
        configurations: YAML files in the workspace that the options name and what they hold.
        follows: the trained model whose configuration it keeps to; its ``--config`` is a copy of that.
    """

    name: str
    arguments: tuple[str, ...] = ()
    options: tuple[tuple[str, str | None], ...] = ()
    configurations: tuple[tuple[Path, str], ...] = ()
    follows: "InputRef | None" = None

    @staticmethod
    def parse(text: str) -> "Command | None":
        """The inverse of :meth:`text`; None for what is no such command. Arguments stand before all options."""
        try:
            words = shlex.split(text)
        except ValueError:
            return None
        if len(words) < 2 or words[0] != _PROGRAM:
            return None
        rest, options, arguments = words[2:], list[tuple[str, str | None]](), list[str]()
        while rest:
            word = rest.pop(0)
            if not word.startswith("--"):
                arguments.append(word)
            else:
                options.append((word, rest.pop(0) if rest and not rest[0].startswith("--") else None))
        return Command(words[1], tuple(arguments), tuple(options))

    def get(self, option: str) -> str | None:
        """The (last) value of an option; None where it is not there."""
        return next((value for name, value in reversed(self.options) if name == option), None)

    def has(self, option: str) -> bool:
        """Whether an option is there."""
        return any(name == option for name, _ in self.options)

    def without(self, *options: str) -> "Command":
        """The same without some options."""
        return replace(self, options=tuple(pair for pair in self.options if pair[0] not in options))

    def setting(self, option: str, *values: str | Path | int | None) -> "Command":
        """The same with other values of an option, in its old place; without values a flag."""
        given = [(option, None if value is None else str(value)) for value in values or (None,)]
        there = [index for index, (name, _) in enumerate(self.options) if name == option]
        at = there[0] if there else len(self.options)
        others = self.without(option).options
        return replace(self, options=(*others[:at], *given, *others[at:]))

    def adding(self, option: str, value: str) -> "Command":
        """The same with one more value of an option that may be repeated."""
        return replace(self, options=(*self.options, (option, value)))

    def keeping(self, root: Path, stem: str, text: str, option: str = "--config") -> "Command":
        """The same with a configuration (or what else `option` names) of its own, kept in the workspace `root`.

        The file's name says its contents.

        So the command still means the same when the user's file, or the model it was taken from, has changed.
        """
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:_DIGEST_LENGTH]
        path = absolute(root) / CONFIG_FOLDER / f"{stem.removesuffix(f'-{digest}')}-{digest}.yaml"
        command = self.setting(option, path)
        named = {str(value) for _, value in command.options}
        others = (kept for kept in self.configurations if kept[0] != path and str(kept[0]) in named)
        return replace(command, configurations=(*others, (path, text)))

    def text(self, root: Path | None, explicit: bool = False) -> str:
        """To be pasted into a shell.

        Args:
            root: the workspace; None for a command that has none.
            explicit: say it also where a command finds it by itself (:func:`is_default`).
        """
        options = list(self.without(_WORKSPACE, _FORCE).options)
        if root is not None and (explicit or not is_default(root)):
            options.append((_WORKSPACE, str(absolute(root))))
        if self.has(_FORCE):
            options.append((_FORCE, None))
        words = [_PROGRAM, self.name, *self.arguments]
        for option, value in options:
            words += [option] if value is None else [option, value]
        return shlex.join(words)

    def moved(self, root: Path) -> "Command":
        """A recorded command for the workspace as it is reached now, also where it was moved since."""
        recorded = self.get(_WORKSPACE)
        if recorded is None:
            return self

        def move(word: str | None) -> str | None:
            inside = word is not None and (word == recorded or word.startswith(recorded + os.sep))
            return str(absolute(root)) + word[len(recorded) :] if word is not None and inside else word

        return replace(
            self,
            arguments=tuple(str(move(word)) for word in self.arguments),
            options=tuple((option, move(value)) for option, value in self.options),
        )


def command_text(text: str, root: Path, force: bool = False) -> str:
    """A command, such as one that a manifest recorded, for the workspace `root`; `force` if it is to replace."""
    command = Command.parse(text)
    if command is None:
        return text
    command = command.moved(root)
    return (command.setting(_FORCE) if force else command).text(root)


def first_command(stage: str, name: str) -> str:
    """A command that makes an artifact of which nothing is known but its name."""
    return _FIRST_COMMANDS.get(stage, f"crkd {stage} --name {{name}}").format(name=name)


def unknown_inputs(stage: str) -> str:
    """What a :func:`first_command` leaves to the user, as a part of a sentence; empty where that is nothing."""
    options = _INPUT_OPTIONS.get(stage)
    return f"what it was made from is not known and has to be named ({options})" if options else ""


def command_like(given: Command | None, text: str, root: Path) -> str:
    """A command with the configuration that another one was given, to be pasted."""
    command = Command.parse(text)
    if command is None:
        return text
    chosen = tuple(pair for pair in (given.options if given is not None else ()) if pair[0] in CONFIG_OPTIONS)
    return replace(command, options=(*command.options, *chosen)).text(root)
