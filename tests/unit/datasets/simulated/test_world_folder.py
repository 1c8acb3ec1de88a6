"""Folders of simulated data sets: killed before any step, and with things of the user's in and around them."""

import os
from collections import defaultdict

import pytest

from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.writer import making
from crkd_core.datasets.simulated.writer.formats import FORMATS
from crkd_core.errors import UsageError
from crkd_core.progress import SilentProgress
from crkd_core.stages.simulate import SimulateRequest, simulate
from tests.support.kills import run_until, tree

CONFIGS = {
    seed: SimulationConfig(train_scenes=2, val_scenes=0, samples_per_scene=1, seed=seed, camera_sweeps_per_key_frame=0)
    for seed in (0, 1)
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Scenes of three small files."""

    def simulate_scene(root, config, plan, sample_done):
        name = f"sim{plan.index:04d}__CAM_FRONT__{plan.index}.jpg"
        files = [f"samples/CAM_FRONT/{name}", f"sweeps/CAM_FRONT/{name}", f"maps/{plan.index:032x}.png"]
        for file in files:
            (root / file).write_text(f"{file} {config.seed}")
        sample_done()
        records = defaultdict(list, {"sample_data": [{"filename": file} for file in files[:2]]})
        records["scene"].append({"name": plan.name})
        records["map"].append({"filename": files[2]})
        return {table: records[table] for table in FORMATS["nuscenes"].tables}

    monkeypatch.setattr(making, "simulate_scene", simulate_scene)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def run(out, seed=0, force=False):
    return simulate(SimulateRequest(out, CONFIGS[seed], processes=1, force=force), SilentProgress())


def expected_tree(tmp_path, seed):
    run(tmp_path / "expected" / "world", seed)
    return tree(tmp_path / "expected")


def test_killed_before_any_step(tmp_path):
    expected = expected_tree(tmp_path, 0)
    for step in range(1, 1000, 2):
        folder = tmp_path / str(step)
        folder.mkdir()
        ended = run_until(step, lambda: run(folder / "world"), folder)  # noqa: B023
        assert run(folder / "world").scenes == 2
        assert tree(folder) == expected, f"killed before step {step}"
        if ended:
            break
    assert step > 80


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_before_any_step_of_a_remake(tmp_path, seed):
    expected = expected_tree(tmp_path, seed)
    for step in range(1, 1000, 3):
        folder = tmp_path / str(step)
        folder.mkdir()
        run(folder / "world")
        ended = run_until(step, lambda: run(folder / "world", seed, force=True), folder)  # noqa: B023
        assert (folder / "world").exists() or (folder / "world.replaced").exists()
        if not ended:
            run(folder / "world", seed, force=True)
        assert tree(folder) == expected, f"killed before step {step}"
        if ended:
            break
    assert step > 80


@pytest.mark.parametrize("file", ["samples/CAM_FRONT", "maps", "finished-scenes"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_file_of_an_unfinished_simulation_is_made_again(tmp_path, monkeypatch, file, damage):
    expected, out = expected_tree(tmp_path, 0), tmp_path / "here" / "world"
    with monkeypatch.context() as patched:
        patched.setattr(making, "table_text", lambda records: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(out)
    path = min((out.with_name("world.partial") / file).iterdir())
    path.unlink() if damage == "gone" else os.truncate(path, 3)
    run(out)
    assert tree(out.parent) == expected


MINE = ["notes.txt", "ws/prepare/manifest.json", "samples/CAM_FRONT/mine.jpg", "v1.0-sim-mini/mine.json"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("where", ["world", "world.partial", "world.replaced"])
@pytest.mark.parametrize("mine", MINE)
def test_what_the_user_keeps_in_a_simulated_world_stays(tmp_path, where, mine, seed, force):
    run(tmp_path / "world")
    (tmp_path / "world").rename(tmp_path / where)
    path = tmp_path / where / mine
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("years of work")
    before = tree(tmp_path)
    if where == "world" and seed == 0 and not force:
        run(tmp_path / "world")
    else:
        with pytest.raises(UsageError):
            run(tmp_path / "world", seed, force)
    assert path.read_text() == "years of work"
    assert tree(tmp_path).keys() == before.keys()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["a folder", "a file", "a link", "a link to a world", "a broken link"])
@pytest.mark.parametrize("where", ["world", "world.partial", "world.replaced"])
def test_something_else_in_the_way_stays(tmp_path, where, kind, force):
    path, target = tmp_path / where, tmp_path / "thesis"
    target.mkdir()
    if kind == "a link to a world":
        run(tmp_path / "elsewhere" / "world", seed=1)
        path.symlink_to(tmp_path / "elsewhere" / "world")
    elif kind == "a broken link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "a link":
        path.symlink_to(target)
    elif kind == "a folder":
        target = path
        path.mkdir()
    else:
        path.write_text("years of work")
    if kind in ("a folder", "a link"):
        (target / "thesis.tex").write_text("years of work")
    before = tree(tmp_path)
    if where == "world" and force and kind != "a link to a world":
        run(tmp_path / "world", force=True)
        assert os.path.lexists(tmp_path / "world.old-1")
        assert not (tmp_path / "world").is_symlink()
    else:
        with pytest.raises(UsageError):
            run(tmp_path / "world", force=force)
    after = tree(tmp_path)
    assert after.items() >= {k: v for k, v in before.items() if not k.startswith("world")}.items()
    assert sorted(map(str, after.values())).count("b'years of work'") == sorted(map(str, before.values())).count(
        "b'years of work'"
    )
