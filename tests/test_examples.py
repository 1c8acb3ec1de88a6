"""The guides in ``examples`` do what they say."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from crkd_cli.commands.demo import LOOK_SEED
from examples import add_a_backbone, add_a_loss
from examples.add_a_loss import AttentionConfig, law

ROOT = Path(__file__).resolve().parent.parent
OTHERS = {"weight": 1.0, "power": 3, "distance": "l2"}
SAID = {
    "add_a_loss": {
        "  power: yes",
        "  changed: crkd_core/distillation/attention.py",
        "  command line:  (csrd, msfd, reld, respd, attention)",
        "  cache key:     {'power': 3}",
        "  ablation:      + attention",
    },
    "add_a_dataset": {
        "  samples/roof_right: 6 files",
        "samples       4 train, 2 val",
        "              of 4 classes, 7% without points, 11% without velocity",
        "images        176 x 99, 352 x 198 px",
        "LiDAR         1 to 6 (median 4) sweeps a sample",
        "  a score for each of: car, large, bike, person",
    },
    "add_a_backbone": {
        "  192 channels at 1/32 of the image",
        "  changed: crkd_core/models/backbones/convnext.py",
        "  a run's manifest says {'kind': 'convnext', 'width': 96, 'depths': [3, 3, 9, 3]}",
    },
}


@pytest.mark.parametrize("guide", [path.stem for path in sorted(ROOT.glob("examples/add_a_*.py"))])
def test_every_guide_says_what_it_shows(guide):
    command = [sys.executable, f"examples/{guide}.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert SAID[guide] <= set(done.stdout.splitlines())


def changed_tree(root: Path, put_into: Callable[[Path], list[str]], *folders: str) -> Path:
    """A copy of packages and laws into which a guide has put its part: it changed three files, those that it names."""
    for folder in ("crkd_core", "crkd_cli", "tests/support", *folders):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, root / file)
    before = _contents(root)
    named = put_into(root)
    after = _contents(root)
    assert sorted(named) == sorted(name for name in after if after[name] != before.get(name))
    assert len(named) == 3
    return root


def _contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.py")}


def run_tests(root: Path, chosen: str, *files: str) -> str:
    """What pytest says of tests of a copy, all of which pass."""
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", chosen]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([*command, *files], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_the_loss_of_the_guide_is_learnt():
    values = add_a_loss.train(steps=30)
    assert values[-1] < 0.8 * values[0]


def test_the_law_of_the_guide_fails_without_the_mark(monkeypatch):
    assert law(OTHERS) == {"weight": False, "power": True, "distance": False}
    monkeypatch.setattr(AttentionConfig.model_fields["power"], "metadata", [])
    with pytest.raises(AssertionError, match="power breaks the law"):
        law(OTHERS)


def test_every_law_takes_up_a_loss_of_three_files(tmp_path):
    """Those of losses (zero on equal input, gradients, half precision, ...), of their settings, and of mirroring."""
    root = changed_tree(tmp_path, add_a_loss.put_into, "tests/unit/distillation")
    files = [f"tests/unit/distillation/{name}.py" for name in ("test_laws", "test_target_law", "test_mirroring")]
    chosen = "attention or all or names_sections or stored_names or mirrored_maps or twice"
    said = run_tests(root, chosen, *files)
    assert "test_zero_on_equal_input[attention as configured] PASSED" in said
    assert "manifest_tells_it[attention] PASSED" in said


def test_the_backbone_of_the_guide_is_learnt():
    values = add_a_backbone.train(add_a_backbone.ConvNeXt(add_a_backbone.ConvNeXtConfig()), steps=4)
    assert values[-1] < 0.8 * values[0]


def test_the_law_of_maps_takes_up_a_backbone_of_three_files(tmp_path):
    root = changed_tree(tmp_path, add_a_backbone.put_into, "tests/unit/models")
    said = run_tests(root, "what_the_backbone_says", "tests/unit/models/backbones/test_protocol.py")
    assert "test_maps_are_what_the_backbone_says[49-71-ConvNeXtConfig] PASSED" in said


def seed_of(script: str, pattern: str) -> int:
    (seed,) = re.findall(pattern, (ROOT / "examples" / script).read_text())
    return int(seed)


def test_no_example_shows_a_world_that_models_were_trained_or_chosen_on():
    """Those of the shipped weights, and the ladder's, on which settings were found; and each has one of its own."""
    ladder = 0  # the default of crkd simulate
    trained = seed_of("shipped_weights.sh", r"--seed (\d+)")
    shown = seed_of("quickstart.sh", r"\$\{seed:-([1-9]\d*)\}")
    assert "--seed " not in (ROOT / "examples" / "ladder.sh").read_text()
    assert len({ladder, trained, shown, LOOK_SEED}) == 4


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("examples/*.sh")))
def test_scripts_are_what_the_shell_reads(script):
    subprocess.run(["bash", "-n", f"examples/{script}"], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--from-scrach",), "knows --from-scratch and --seed N"), (("--seed",), "--seed needs a number")],
)
def test_the_quickstart_refuses_before_it_makes_anything(tmp_path, arguments, words):
    command = ["bash", str(ROOT / "examples" / "quickstart.sh"), *arguments]
    environment = {**os.environ, "CRKD_VENV": str(tmp_path / "venv")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert words in done.stderr
    assert not any(tmp_path.iterdir())


def test_commands_side_by_side_end_with_the_script(tmp_path):
    """A failing one fails it, after the others; and a script that is told to end ends them."""
    helpers = f"set -euo pipefail; source {ROOT}/examples/environment.sh"
    failing = f"{helpers}; start sh -c 'sleep 0.2; touch made'; start false; finish; echo reached"
    done = subprocess.run(["bash", "-c", failing], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "reached" not in done.stdout
    assert (tmp_path / "made").exists()
    ending = f"{helpers}; start sh -c 'echo $$; exec sleep 600'; finish"
    process = subprocess.Popen(["bash", "-c", ending], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    started = int(process.stdout.readline())
    process.terminate()
    process.wait(timeout=60)
    for _ in range(100):
        if not Path(f"/proc/{started}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{started}").exists()
