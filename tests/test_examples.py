"""The guides in ``examples`` do what they say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.add_a_loss import AttentionConfig, law, put_into, train

ROOT = Path(__file__).resolve().parent.parent
OTHERS = {"weight": 1.0, "power": 3, "distance": "l2"}


def test_the_loss_of_the_guide_is_learnt():
    values = train(steps=30)
    assert values[-1] < 0.8 * values[0]


def test_the_law_of_the_guide_fails_without_the_mark(monkeypatch):
    assert law(OTHERS) == {"weight": False, "power": True, "distance": False}
    monkeypatch.setattr(AttentionConfig.model_fields["power"], "metadata", [])
    with pytest.raises(AssertionError, match="power breaks the law"):
        law(OTHERS)


@pytest.fixture(scope="module")
def changed_tree(tmp_path_factory) -> Path:
    """A copy of packages and laws into which the guide has put its loss: it changed the files that it names."""
    root = tmp_path_factory.mktemp("tree")
    for folder in ("crkd_core", "crkd_cli", "tests/support", "tests/unit/distillation"):
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


def test_every_law_takes_up_a_loss_of_three_files(changed_tree):
    """Those of losses (zero on equal input, gradients, half precision, ...), of their settings, and of mirroring."""
    files = [f"tests/unit/distillation/{name}.py" for name in ("test_laws", "test_target_law", "test_mirroring")]
    chosen = "attention or all or names_sections or stored_names or mirrored_maps or twice"
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", chosen]
    environment = {**os.environ, "PYTHONPATH": str(changed_tree)}
    done = subprocess.run([*command, *files], cwd=changed_tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "test_zero_on_equal_input[attention as configured] PASSED" in done.stdout
    assert "manifest_tells_it[attention] PASSED" in done.stdout


def test_the_guide_to_a_loss_says_what_it_shows():
    script = ROOT / "examples" / "add_a_loss.py"
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = {
        "  power: yes",
        "  changed: crkd_core/distillation/attention.py",
        "  command line:  (csrd, msfd, reld, respd, attention)",
        "  cache key:     {'power': 3}",
        "  ablation:      + attention",
    }
    assert expected <= set(done.stdout.splitlines())
