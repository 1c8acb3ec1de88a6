"""Every command that a text of the project shows is one that the parser takes: messages, help, README, examples."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from crkd_cli.app import app
from tests.support.checkout import ROOT

COMMANDS = typer.main.get_command(app).commands
MENTION = re.compile(rf"\bcrkd ({'|'.join(COMMANDS)})\b((?: +(?:'[^']*'|\"[^\"]*\"|[^\s'\"`();])+)*)")
# Parsed values must be of the right type; 1 is a name, a folder and a number.
FILL = "1"
FLAGS = {
    name: {
        flag
        for parameter in command.params
        if parameter.param_type_name == "option"
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    for name, command in COMMANDS.items()
}


def sources() -> list[Path]:
    return sorted(path for package in ("crkd_core", "crkd_cli") for path in (ROOT / package).rglob("*.py"))


def texts_of(path: Path) -> Iterator[str]:
    """Constant and formatted strings of a module; what is filled in is the module's own constant, or 1."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(_filled(part, module) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def _filled(part: ast.expr, module: object) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
        value = getattr(module, part.value.id, FILL)
        return value if isinstance(value, str) else FILL
    return FILL


def mentions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Commands in a text with their words, as far as they go before the sentence goes on."""
    for match in MENTION.finditer(re.sub(r"\\\n\s*", " ", text)):
        rest = re.sub(r"\$(?:\{[^}]*\}|\w+)", FILL, match.group(2)).replace("...", FILL)
        words = shlex.split(rest, comments=True)
        # A text that names a command in passing goes on with other words than options.
        if not any(word.startswith("--") for word in words):
            continue
        last = max(index for index, word in enumerate(words) if word.startswith("--"))
        takes_value = _takes_value(match.group(1), words[last])
        yield match.group(1), [word.rstrip(".,:") for word in words[: last + 1 + takes_value]]


def _takes_value(name: str, option: str) -> bool:
    parameters = {flag: parameter for parameter in COMMANDS[name].params for flag in parameter.opts}
    return option.rstrip(".,:") in parameters and not getattr(parameters[option.rstrip(".,:")], "is_flag", False)


def check(name: str, words: list[str]) -> None:
    words = [word.split("|")[0] for word in words]
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in FLAGS[name]]
    assert not unknown, f"crkd {name} has no {unknown}"
    if words and _takes_value(name, words[-1]):
        words.pop()  # an option that is spoken of
    if not any(parameter.param_type_name == "argument" for parameter in COMMANDS[name].params):
        # Something filled in stands for options here, or for none.
        words = [
            word
            for before, word in zip(["", *words], words)
            if word != FILL or (before.startswith("--") and _takes_value(name, before))
        ]
    try:
        COMMANDS[name].make_context(f"crkd {name}", list(words), resilient_parsing=False)
    except typer.Exit:
        pass
    except Exception as error:
        # A sentence may leave out what is not its point.
        if "Missing" not in type(error).__name__:
            raise AssertionError(f"crkd {name} {shlex.join(words)}: {error}") from error


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_messages_and_help(path):
    for text in texts_of(path):
        for name, words in mentions(text):
            check(name, words)


@pytest.mark.parametrize(
    "path",
    [
        ROOT / "README.md",
        ROOT / ".github" / "CONTRIBUTING.md",
        *sorted((ROOT / "findings").glob("*.md")),
        *sorted((ROOT / "examples").glob("*.sh")),
    ],
    ids=lambda path: path.name,
)
def test_commands_in_the_readme_the_findings_and_the_examples(path):
    text = path.read_text(encoding="utf-8")
    commands = list(mentions(text))
    for name, words in commands:
        check(name, words)
    assert commands or path.suffix == ".md" or path.name == "environment.sh"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_options_that_messages_add_exist(path):
    """``workspace.command("crkd evaluate", split=...)``, ``artifact.remake_command(...)``, ``command.setting(...)``."""
    if path.name == "app.py":
        return  # its app.command declares commands
    every = set().union(*FLAGS.values())
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if node.func.attr in ("command", "remake_command"):
            name = first.split()[1] if isinstance(first, str) and first.startswith("crkd ") else None
            allowed = FLAGS[name] if name is not None else every
            added = {f"--{keyword.arg.replace('_', '-')}" for keyword in node.keywords if keyword.arg is not None}
            assert added <= allowed, f"{name}: {added - allowed}"
        elif node.func.attr in ("setting", "adding") and isinstance(first, str):
            assert first in every, first


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("make it with: crkd distill --name a --forse", "--forse"),
        ("run crkd evaluate --batch-size many", "many"),
        ("`crkd import-weights FILE --as kitchen`", "kitchen"),
    ],
)
def test_the_check_finds_mistakes(text, problem):
    ((name, words),) = mentions(text)
    with pytest.raises(AssertionError, match=problem):
        check(name, words)
