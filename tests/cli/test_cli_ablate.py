"""``crkd ablate`` with real students, as short as they can be."""

import pytest

from crkd_core.artifacts.shards import read_tensors
from crkd_core.config.loading import load_config
from crkd_core.stages.ablate.rows import COMPARISONS
from crkd_core.training.trained import WEIGHTS_NAME

SHORT = ("--set", "data.train_fraction=0.5", "--set-after", "train.distill.epochs=1")
AFTER = ("--set-after", "student.head.velocity_beta_mps=2")


@pytest.fixture
def shortened(monkeypatch):
    """One design comparison with its control and the row that needs targets of its own."""
    monkeypatch.setitem(COMPARISONS, "csrd-target", COMPARISONS["csrd-target"][:2])


def test_an_ablation_from_nothing_to_its_table(crkd, chain, tmp_path, shortened):
    workspace = chain.copy(tmp_path).workspace
    command = ("ablate", "--workspace", workspace.root, "--comparison", "csrd-target", "--seeds", "0", *SHORT, *AFTER)
    planned = crkd(*command, "--plan")
    assert planned.code == 0
    names = [f"ablate-{name}-s0" for name in ("gated", "control", "respd-csrd-feature")]
    assert all(f"{name} " in planned.out for name in names)
    assert planned.out.count("to do") == 2 * len(names)
    assert not (workspace.root / "ablate").exists()

    result = crkd(*command)
    assert result.code == 0, result.err
    assert all(words in result.out for words in ("CSRD from LiDAR feature", "paper, Swin-T", "44.9", "mAAE"))
    students = {artifact.name: artifact for artifact in workspace.artifacts("distill")}
    control, taught = students[names[1]].manifest, students[names[2]].manifest
    assert control.settings["detector"] == taught.settings["detector"]
    assert control.facts["steps"] == taught.facts["steps"]
    assert control.inputs["start"] == taught.inputs["start"] == students[names[0]].reference()
    assert taught.inputs["targets"].name == "ablate-respd-csrd-feature"
    betas = [load_config(file=students[name].path / "config.yaml").student.head.velocity_beta_mps for name in names]
    assert betas == [chain.config.student.head.velocity_beta_mps, 2.0, 2.0]
    own, taught_by_heatmap = (
        read_tensors(artifact, name)
        for artifact, name in ((students[names[2]], WEIGHTS_NAME), (students["crkd"], WEIGHTS_NAME))
    )
    assert own.keys() == taught_by_heatmap.keys()
    table = workspace.find("ablate", "csrd-target", needed_for="test", make="")
    assert {"table.json", "table.csv", "table.md"} <= set(table.manifest.files)
    assert set(table.manifest.inputs) == set(names)

    again = crkd(*command)
    assert again.code == 0
    assert again.out == result.out
    assert workspace.find("ablate", "csrd-target", needed_for="test", make="").manifest == table.manifest


def test_a_plan_needs_a_split_that_is_there(crkd, chain):
    command = ("ablate", "--workspace", chain.workspace.root, "--split", "nope")
    planned, begun = crkd(*command, "--plan"), crkd(*command)
    assert (planned.code, planned.err) == (begun.code, begun.err)
    assert planned.code == 2
    assert "nope" in planned.err


def test_what_is_no_seed_is_refused(crkd, tmp_path):
    result = crkd("ablate", "--workspace", tmp_path, "--preset", "tiny", "--seeds", "0,x")
    assert result.code == 2
    assert "'0,x'" in result.err
    assert crkd("ablate", "--workspace", tmp_path, "--preset", "tiny", "--comparison", "leader").code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--name", "a b"), 2, ("'a b' cannot name a run",)),
        (("--split", "nope"), 2, ("no split 'nope'",)),
        (("--split", "test"), 2, ("not public",)),
        (("--seeds", "99999999999999999999999"), 2, ("--seeds expects whole numbers",)),
        (("--seeds", str(2**63)), 2, ("expected different seeds from 0 to 9223372036854775807",)),
        (("--seeds", "٣"), 2, ("--seeds expects whole numbers",)),
        (("--seeds", "0,0"), 2, ("expected different seeds",)),
        (("--seeds", "1,"), 2, ("--seeds expects whole numbers",)),
        (("--comparison", "leader"), 2, ("expected comparisons of ladder", "found 'leader'")),
        (("--teacher", "no"), 4, ("needs train-teacher/no",)),
        (("--prepared", "no"), 4, ("needs prepare/no",)),
        (("--nuscenes", "/nowhere"), 3, ("/nowhere", "is not a folder")),
        (("--device", "meta"), 2, ("on a device called 'meta'",)),
        (("--set-after", "train.seed=-1"), 2, ("'train.seed'",)),
        (
            ("--set", "data.grid.x_range_m=[-42, 42]"),
            4,
            ("train-teacher/teacher was trained with data.grid.x_range_m",),
        ),
        (("--set", "data.lidar.sweeps=20"), 2, ("data.lidar.sweeps asks for 20 sweeps",)),
        (
            ("--set", "teacher.fuser.channels=64", "--set", "student.fuser.channels=64"),
            2,
            ("fused maps of equal width",),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_everything_is_checked_before_anything_is_trained(
    refused, chain, tmp_path, monkeypatch, arguments, code, words
):
    def train(*_):
        raise AssertionError("a student was trained first")

    monkeypatch.setattr("crkd_core.stages.ablate.ablate.distill", train)
    monkeypatch.setattr("crkd_core.stages.ablate.ablate.extract_teacher", train)
    refused(code, words, "ablate", "-w", chain.copy(tmp_path).workspace.root, *arguments)
