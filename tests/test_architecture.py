"""The house: floors import only downwards, shapes are really checked, nothing reads a pickle, tests stand alone."""

import ast
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from crkd_core.config.description_files import dataset_names, known_description
from crkd_core.geometry.grid import BEVGrid
from tests.support.checkout import ROOT


def test_import_contract():
    done = subprocess.run([str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_wrong_shape_raises_while_testing():
    grid = BEVGrid((0.0, 8.0), (0.0, 8.0), (0.0, 1.0), 1.0)
    with pytest.raises(TypeCheckError):
        grid.to_cells(torch.zeros(4, 3))


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_files_and_functions_are_short():
    """A file of ``stages`` is a command that calls its subject's room; nothing else needs a second screen to follow."""
    everything = python_files("crkd_core", "crkd_cli", "tests", "examples")
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in everything}
    assert [name for name, lines in lengths.items() if lines > 450] == []
    assert [name for name, lines in lengths.items() if lines > 150 and name.startswith("crkd_core/stages/")] == []
    long = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in everything
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 80
    ]
    assert long == []


def test_every_data_file_is_in_the_wheel():
    """What lies in a package and is no module is named as its package data."""
    (table,) = re.findall(
        r"^\[tool\.setuptools\.package-data\]\n((?:\".*\n)+)", (ROOT / "pyproject.toml").read_text(), re.M
    )
    entries = [ast.literal_eval("{" + line.replace(" = ", ": ") + "}") for line in table.splitlines()]
    named = {
        path
        for entry in entries
        for package, patterns in entry.items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    everything = {
        path
        for package in ("crkd_core", "crkd_cli")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert everything <= named
    assert ROOT / "crkd_core" / "config" / "presets" / "tiny.yaml" in everything


def test_every_room_has_its_floor():
    (floors,) = re.findall(r"^layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    on_floors = set(re.findall(r"\w+", floors))
    rooms = {path.name for path in (ROOT / "crkd_core").iterdir() if (path / "__init__.py").exists()}
    rooms |= {path.stem for path in (ROOT / "crkd_core").glob("*.py") if path.name[0] != "_"}
    assert on_floors == rooms


HOUSE_IDIOMS = {"found", "place", "ours", "theirs", "wanted", "how"}


def test_variables_are_called_what_they_are():
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files("crkd_core", "crkd_cli", "tests", "examples")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in HOUSE_IDIOMS)
        or (isinstance(node, ast.arg) and node.arg in HOUSE_IDIOMS)
    ]
    assert offenders == []


PICKLE = re.compile(
    r"\bimport pickle|pickle\.load|(?<!safetensors\.)torch\.load\((?!.*weights_only=True)|allow_pickle=True"
)


def test_no_pickle_is_read():
    offenders = [
        f"{path.name}: {line.strip()}"
        for package in ("crkd_core", "crkd_cli")
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if PICKLE.search(line)
    ]
    assert offenders == []


def imported_modules(path: Path) -> list[str]:
    """Names of the modules that a file imports from, relative ones with their dots."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    members = [f"{node.module}.{alias.name}" for node in froms if node.module for alias in node.names]
    return names + members + ["." * node.level + (node.module or "") for node in froms if node.level or node.module]


def is_private_to_its_file(module: str) -> bool:
    """Whether a module holds tests or fixtures, or is named by where the importing file happens to lie."""
    return module.startswith((".", "conftest")) or bool(re.match(r"tests\.(.+\.)?(conftest|test_\w+)(\.|$)", module))


def test_tests_share_by_support_modules_only():
    offenders = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in (ROOT / "tests").rglob("*.py")
        for module in imported_modules(path)
        if is_private_to_its_file(module)
    ]
    assert offenders == []


@pytest.mark.parametrize("module", ["tests.cli.test_streams.shell", "tests.conftest", ".cases", "conftest"])
def test_what_tests_must_not_import_is_recognised(module):
    assert is_private_to_its_file(module)
    assert not is_private_to_its_file("tests.support.chain.Chain")


def test_only_the_official_evaluation_imports_devkits():
    importers = {
        path.relative_to(ROOT).as_posix()
        for package in ("crkd_core", "crkd_cli")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"^\s*(from|import) (nuscenes|truckscenes|pyquaternion)\b", path.read_text(), re.M)
    }
    assert importers == {"crkd_core/evaluation/nuscenes/devkits.py"}


def said_strings(path: Path) -> list[str]:
    """String constants of a file, without docstrings."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return [node.value for node in constants if isinstance(node.value, str)]


def test_no_code_knows_a_class_or_a_channel():
    """They stand in descriptions; what exists in the simulated world is its own affair."""
    descriptions = [known_description(name) for name in dataset_names()]
    kinds = ("class_names", "channels", "categories", "attributes")
    names = {name for description in descriptions for kind in kinds for name in getattr(description, kind)}
    files = [path for path in python_files("crkd_core", "crkd_cli") if "simulated" not in path.parts]
    assert [f"{path.relative_to(ROOT)}: {text}" for path in files for text in said_strings(path) if text in names] == []


def test_what_no_code_may_know_is_recognised(tmp_path):
    (tmp_path / "a.py").write_text('"""car"""\nCLASSES = ("car", f"{1} bus")\n')
    assert said_strings(tmp_path / "a.py") == ["car", " bus"]


@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
@pytest.mark.parametrize("module", ["crkd_core.models.camera", "crkd_cli.app", "tests.unit.test_cores"])
def test_what_our_own_calls_will_lose_is_an_error(module, category):
    code = compile("warn('this will be removed', category)", "a_file_of_ours.py", "exec")
    with pytest.raises(category):
        exec(code, {"__name__": module, "warn": warnings.warn, "category": category})


def test_what_other_packages_call_is_no_error():
    code = compile("warn('this will be removed', DeprecationWarning)", "a_file_of_theirs.py", "exec")
    exec(code, {"__name__": "torch.jit", "warn": warnings.warn})


def test_the_readme_is_short_enough_to_be_read_to_the_end():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 130
    assert max(map(len, lines)) <= 160


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "findings").glob("*.md"))], ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []
