"""The guides in ``examples`` do what they say."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
