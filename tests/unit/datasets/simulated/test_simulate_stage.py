"""The stage: same bytes however it is run, goes on after a stop, and refuses what it must not touch."""

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from crkd_core.artifacts.workspace import Workspace
from crkd_core.datasets.nuscenes.splits import official_scenes
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.writer import making
from crkd_core.datasets.simulated.writer.names import scene_plans
from crkd_core.datasets.simulated.writer.world_folder import MARKER
from crkd_core.errors import ConfigError, UsageError, WriteError
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import PrepareRequest, prepare
from crkd_core.stages.simulate import SimulateRequest, simulate

SMALLEST = SimulationConfig(
    train_scenes=2,
    val_scenes=0,
    samples_per_scene=2,
    image_width=64,
    image_height=36,
    lidar_azimuth_steps=36,
    lidar_sweeps_per_key_frame=1,
    radar_sweeps_per_key_frame=1,
    camera_sweeps_per_key_frame=1,
    density=0.3,
)


def _digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


class _CountingProgress(SilentProgress):
    def __init__(self) -> None:
        self.steps = 0
        self.done_before = 0
        self.texts: list[str] = []

    def task(self, description, total=None, unit="", done=0):
        self.done_before = done
        outer = self

        class _Task:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                return None

            def advance(self, steps=1, **fields):
                outer.steps += steps

        return _Task()

    def message(self, text):
        self.texts.append(text)

    warning = message


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "world"
    progress = _CountingProgress()
    result = simulate(SimulateRequest(out, SMALLEST, processes=1), progress)
    assert progress.steps == result.samples == 4
    return result


def test_two_processes_give_the_same_bytes(reference, tmp_path):
    progress = _CountingProgress()
    other = simulate(SimulateRequest(tmp_path / "other", SMALLEST, processes=2), progress)
    assert _digests(other.root) == _digests(reference.root)
    assert (other.scenes, other.samples, other.annotations) == (
        reference.scenes,
        reference.samples,
        reference.annotations,
    )


def test_another_seed_gives_another_world(reference, tmp_path):
    config = SMALLEST.model_copy(update={"seed": 1, "train_scenes": 1})
    other = simulate(SimulateRequest(tmp_path / "other", config, processes=1), SilentProgress())
    first = sorted((other.root / "samples" / "LIDAR_TOP").iterdir())[0]
    known = {path.read_bytes() for path in (reference.root / "samples" / "LIDAR_TOP").iterdir()}
    assert first.read_bytes() not in known


def test_stopped_run_goes_on_and_ends_with_the_same_bytes(reference, tmp_path, monkeypatch):
    out = tmp_path / "world"
    real, calls = making.simulate_scene, []

    def stop_in_second_scene(root, config, plan, sample_done):
        calls.append(plan.name)
        if len(calls) < 2:
            return real(root, config, plan, sample_done)

        def stop():
            raise KeyboardInterrupt

        return real(root, config, plan, stop)

    monkeypatch.setattr(making, "simulate_scene", stop_in_second_scene)
    with pytest.raises(KeyboardInterrupt):
        simulate(SimulateRequest(out, SMALLEST, processes=1), SilentProgress())
    assert not out.exists()
    monkeypatch.setattr(making, "simulate_scene", real)
    progress = _CountingProgress()
    simulate(SimulateRequest(out, SMALLEST, processes=1), progress)
    assert (progress.done_before, progress.steps) == (2, 2)
    assert _digests(out) == _digests(reference.root)
    assert not out.with_name("world.partial").exists()


def test_same_configuration_again_is_already_there(reference):
    before = _digests(reference.root)
    progress = _CountingProgress()
    again = simulate(SimulateRequest(reference.root, SMALLEST, processes=1), progress)
    assert progress.steps == 0
    assert "already" in progress.texts[0]
    assert (again.scenes, again.annotations) == (reference.scenes, reference.annotations)
    assert _digests(reference.root) == before


def test_other_settings_are_refused_unless_forced(tmp_path):
    config = SMALLEST.model_copy(update={"train_scenes": 1, "samples_per_scene": 1})
    out = tmp_path / "world"
    simulate(SimulateRequest(out, config, processes=1), SilentProgress())
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(UsageError, match="seed is 0, wanted 5"):
        simulate(SimulateRequest(out, other, processes=1), SilentProgress())
    simulate(SimulateRequest(out, other, processes=1, force=True), SilentProgress())
    assert json.loads((out / MARKER).read_text())["config"]["seed"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_foreign_folder_is_refused_and_with_force_moved_aside(tmp_path):
    config = SMALLEST.model_copy(update={"train_scenes": 1, "samples_per_scene": 1})
    out = tmp_path / "world"
    out.mkdir()
    (out / "thesis.txt").write_text("ten years of work")
    with pytest.raises(UsageError, match="not a simulated data set"):
        simulate(SimulateRequest(out, config, processes=1), SilentProgress())
    progress = _CountingProgress()
    simulate(SimulateRequest(out, config, processes=1, force=True), progress)
    assert (tmp_path / "world.old-1" / "thesis.txt").read_text() == "ten years of work"
    assert "world.old-1" in progress.texts[0]
    assert (out / "v1.0-sim-mini" / "scene.json").exists()


def test_unfinished_run_with_other_settings_is_refused(tmp_path):
    out = tmp_path / "world"
    partial = tmp_path / "world.partial"
    partial.mkdir()
    (partial / MARKER).write_text(json.dumps({"digest": "x", "config": {}}))
    with pytest.raises(UsageError, match="unfinished simulation with other settings"):
        simulate(SimulateRequest(out, SMALLEST, processes=1), SilentProgress())


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(making, "simulate_scene", full)
    with pytest.raises(WriteError, match=r"no space is left on the disk.*continues"):
        simulate(SimulateRequest(tmp_path / "world", SMALLEST, processes=1), SilentProgress())


def test_too_many_scenes_are_refused():
    with pytest.raises(ConfigError, match=r"train_scenes = 9 is too many.*at most 8"):
        SimulationConfig(train_scenes=9)
    with pytest.raises(ConfigError, match="at most 150"):
        SimulationConfig(kind="trainval", val_scenes=151)
    with pytest.raises(ConfigError, match="at least one scene"):
        SimulationConfig(train_scenes=0, val_scenes=0)
    with pytest.raises(UsageError, match="at least 1"):
        simulate(SimulateRequest(Path("nowhere"), SMALLEST, processes=0), SilentProgress())


def test_scene_names_are_official():
    mini = [plan.name for plan in scene_plans(SimulationConfig())]
    assert mini == [*official_scenes("mini_train"), *official_scenes("mini_val")]
    large = scene_plans(SimulationConfig(kind="trainval", train_scenes=700, val_scenes=150))
    assert [plan.name for plan in large] == [*official_scenes("train"), *official_scenes("val")]


def test_a_lead_in_adds_sweeps_before_the_first_key_frame_and_changes_nothing_else(tmp_path):
    sizes = {"train_scenes": 1, "lidar_sweeps_per_key_frame": 9, "camera_sweeps_per_key_frame": 0}
    plain, led = (
        simulate(
            SimulateRequest(tmp_path / str(lead_in), SMALLEST.model_copy(update=sizes | {"lead_in": lead_in}), 1),
            SilentProgress(),
        )
        for lead_in in (False, True)
    )
    before, after = _digests(plain.root), _digests(led.root)
    sensor_files = {path for path in before if path.startswith(("samples", "sweeps"))}
    assert {path: before[path] for path in sensor_files}.items() <= after.items()
    added = [path for path in after if path not in before]
    assert sum("LIDAR_TOP" in path for path in added) == 9
    assert sum("RADAR" in path for path in added) == 5

    workspace = Workspace(tmp_path / "workspace")
    prepared = prepare(PrepareRequest(nuscenes=led.root, version=None), workspace, SilentProgress()).artifact
    sweeps = [row for row in pq.read_table(prepared.path / "lidar_sweeps.parquet").to_pylist() if row["sample"] == 0]
    assert np.allclose([row["age_s"] for row in sweeps], np.arange(10) * 0.05, atol=1e-6)
    # The vehicle was moving already: forward in its own frame, at the speed it goes on with.
    places = np.array([np.reshape(row["lidar_from_sweep"], (4, 4))[:3, 3] for row in sweeps])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert steps.min() > 0.1
    assert np.allclose(steps, steps.mean(), rtol=0.2)
